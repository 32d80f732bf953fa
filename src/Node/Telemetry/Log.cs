using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Telemetry;

/// <summary>Every log line of a validator. Event ids are stable: alert rules and searches refer to them.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "validator {Name} starts on chain {Chain} at height {Height}")]
    public static partial void Starting(ILogger logger, string name, string chain, ulong height);

    [LoggerMessage(2, LogLevel.Information, "validator {Name} stops at height {Height}")]
    public static partial void Stopping(ILogger logger, string name, ulong height);

    [LoggerMessage(3, LogLevel.Critical, "validator stops itself: {Reason}")]
    public static partial void Fatal(ILogger logger, string reason);

    [LoggerMessage(10, LogLevel.Information, "block {Height} committed: {Transactions} transactions, {Rejected} rejected, view {View}, proposer {Proposer}, hash {Hash}")]
    public static partial void BlockCommitted(ILogger logger, ulong height, int transactions, int rejected, string view, string proposer, string hash);

    [LoggerMessage(11, LogLevel.Warning, "suspects leader of view {View}: {Reason}")]
    public static partial void Suspected(ILogger logger, string view, string reason);

    [LoggerMessage(12, LogLevel.Warning, "view change to {Target}: {Reason}; suspected by {SuspectedBy}")]
    public static partial void ViewChange(ILogger logger, string target, string reason, string suspectedBy);

    [LoggerMessage(13, LogLevel.Information, "view {View} entered, leader {Leader}, base height {Base}")]
    public static partial void ViewEntered(ILogger logger, string view, string leader, ulong @base);

    [LoggerMessage(14, LogLevel.Error, "validator {Offender} signed two {Type} messages for view {View} height {Height}")]
    public static partial void Equivocation(ILogger logger, string offender, string type, string view, ulong height);

    [LoggerMessage(15, LogLevel.Warning, "proposal of {Leader} for height {Height} refused: {Reason}")]
    public static partial void ProposalRefused(ILogger logger, string leader, ulong height, string reason);

    [LoggerMessage(16, LogLevel.Information, "caught up heights {From} to {To} from peers")]
    public static partial void CaughtUp(ILogger logger, ulong from, ulong to);

    [LoggerMessage(17, LogLevel.Debug, "asks {Peer} for {Count} bodies of height {Height}")]
    public static partial void BodiesRequested(ILogger logger, string peer, int count, ulong height);

    [LoggerMessage(30, LogLevel.Information, "peer {Peer} at {Address}: {What}")]
    public static partial void PeerLink(ILogger logger, string peer, string address, string what);

    [LoggerMessage(31, LogLevel.Warning, "connection refused: {Reason}")]
    public static partial void PeerRefused(ILogger logger, string reason);

    [LoggerMessage(32, LogLevel.Warning, "message delivered by {Peer} refused: {Reason}")]
    public static partial void MessageRefused(ILogger logger, string peer, string reason);

    [LoggerMessage(40, LogLevel.Information, "dead letter {Code}: {Topic}/{Partition}@{Offset}: {Explanation}")]
    public static partial void DeadLetter(ILogger logger, string code, string topic, int partition, long offset, string explanation);

    [LoggerMessage(41, LogLevel.Warning, "kafka: {Reason}")]
    public static partial void Kafka(ILogger logger, string reason);

    [LoggerMessage(42, LogLevel.Information, "kafka assignment: {Partitions} partitions")]
    public static partial void KafkaAssigned(ILogger logger, int partitions);

    [LoggerMessage(43, LogLevel.Warning, "block {Height}: {Count} control records did not appear and are published here")]
    public static partial void ControlRecordsTakenOver(ILogger logger, ulong height, int count);

    [LoggerMessage(44, LogLevel.Warning, "control record {Topic}/{Partition}@{Offset} is not genuine: {Reason}")]
    public static partial void ControlRecordRefused(ILogger logger, string topic, int partition, long offset, string reason);

    [LoggerMessage(45, LogLevel.Debug, "control topics cannot be read: {Reason}")]
    public static partial void ControlTopicsUnread(ILogger logger, string reason);

    [LoggerMessage(50, LogLevel.Warning, "projection behind, will retry: {Reason}")]
    public static partial void ProjectionRetry(ILogger logger, string reason);

    [LoggerMessage(18, LogLevel.Error, "proof against {Offender} ({Kind}, view {View}, height {Height}) goes into a block")]
    public static partial void Misbehaved(ILogger logger, string offender, string kind, string view, ulong height);

    [LoggerMessage(19, LogLevel.Critical, "the chain has forked at height {Height}; the proof is in {Path}")]
    public static partial void Forked(ILogger logger, ulong height, string path);

    [LoggerMessage(60, LogLevel.Error, "quarantined, signs no vote: {Why}")]
    public static partial void Quarantined(ILogger logger, string why);

    [LoggerMessage(62, LogLevel.Information, "epoch {Epoch}: {Count} validators: {Names}")]
    public static partial void EpochEntered(ILogger logger, ulong epoch, int count, string names);

    [LoggerMessage(64, LogLevel.Critical, "the state after block {Height} is not the one a quorum has certified; this validator starts over from the blocks of the others, the account is {Path}")]
    public static partial void Diverged(ILogger logger, ulong height, string path);

    [LoggerMessage(65, LogLevel.Debug, "checkpoint of term {Term} at height {Height} is stable")]
    public static partial void CheckpointStable(ILogger logger, ulong term, ulong height);

    [LoggerMessage(66, LogLevel.Warning, "took over the state after block {To} from the others; blocks {From} to {To} are not stored here")]
    public static partial void SnapshotInstalled(ILogger logger, ulong from, ulong to);

    [LoggerMessage(63, LogLevel.Warning, "this identity is not of the validator set; it follows the chain and waits for an order of the operators")]
    public static partial void NotAMember(ILogger logger);

    [LoggerMessage(70, LogLevel.Information, "{Validator} listens: HTTP {Http}, mesh {Mesh}")]
    public static partial void Listening(ILogger logger, string validator, string http, string mesh);

    [LoggerMessage(71, LogLevel.Warning, "{Setting} is set and has no effect: nothing in this product uses it")]
    public static partial void UnusedSetting(ILogger logger, string setting);

    [LoggerMessage(69, LogLevel.Warning, "the head of the audit log is not in the chain: {Reason}")]
    public static partial void AuditNotAnchored(ILogger logger, string reason);

    [LoggerMessage(68, LogLevel.Warning, "webhook {Hook}: {What}")]
    public static partial void Webhook(ILogger logger, string hook, string what);

    [LoggerMessage(67, LogLevel.Information, "this node observes; validators let it in that name {Key} in P2P_OBSERVERS")]
    public static partial void IsObserver(ILogger logger, string key);

    [LoggerMessage(72, LogLevel.Error, "from block {From} on the chain follows version {Version} of its rules, which this program does not know: install one that does before then, or this validator stops there")]
    public static partial void UpgradeAhead(ILogger logger, uint version, ulong from);

    [LoggerMessage(61, LogLevel.Warning, "abstains from voting until term {Term}, when nothing it forgot can matter any more")]
    public static partial void Abstaining(ILogger logger, ulong term);
}
