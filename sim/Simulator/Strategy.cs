namespace CyberMesh.Simulator;

/// <summary>How a lying validator lies. It holds real keys and otherwise runs the real replica.</summary>
public enum Strategy
{
    None,

    /// <summary>Sends nothing at all.</summary>
    Silent,

    /// <summary>Votes, but never proposes and gives no sign of life as a leader.</summary>
    SilentLeader,

    /// <summary>Gives signs of life as a leader, but never proposes.</summary>
    HeartbeatOnly,

    /// <summary>Proposes late, each time just before the others lose patience.</summary>
    SlowLeader,

    /// <summary>Shows different proposals, votes and claims to different validators.</summary>
    Equivocate,

    /// <summary>Votes for two blocks, to different validators.</summary>
    DoubleVote,

    /// <summary>Claims in a view change to know less than it does.</summary>
    Understate,

    /// <summary>Opens a view with different claims for different validators.</summary>
    TwoNewViews,

    /// <summary>Sends its votes to half of the validators.</summary>
    SelectiveVotes,

    /// <summary>Never votes.</summary>
    WithholdVotes,

    /// <summary>Votes late, when the others have moved on.</summary>
    LateVotes,

    /// <summary>Sends nothing at all to one validator.</summary>
    StarveOne,

    /// <summary>Proposes blocks that break a rule.</summary>
    InvalidProposals,

    /// <summary>Never proposes certain transactions.</summary>
    Censor,

    /// <summary>Suspects whoever leads, all the time.</summary>
    SuspectSpam,

    /// <summary>Asks for views far ahead.</summary>
    ViewChangeSpam,

    /// <summary>Resigns from leading whenever it leads.</summary>
    HandoverSpam,

    /// <summary>Says its own old messages again.</summary>
    Replay,

    /// <summary>Serves wrong, cut or no blocks to those that catch up.</summary>
    PoisonCatchUp,

    /// <summary>Pretends to have lost its votes, and lies about where it stands.</summary>
    LyingStatus,

    /// <summary>Changes one field of a message and signs the result.</summary>
    Mutate,

    /// <summary>Sends messages with broken signatures.</summary>
    BadSignatures,

    /// <summary>Any of the above, chosen anew for each message.</summary>
    Mixed,

    /// <summary>All liars together: as leaders they show two valid blocks, vote for both, and deny it in view changes.</summary>
    Collude,
}
