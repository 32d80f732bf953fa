namespace CyberMesh.Core.Encoding;

/// <summary>Every bound on what a message may carry, in one place. Checked before anything is allocated for it.</summary>
public static class Limits
{
    /// <summary>A Kafka record value (wire-format.md, "What is valid").</summary>
    public const int RecordBytesMax = 1 << 20;

    public const int PayloadBytesMax = 512 * 1024;
    public const int ProofBlobBytesMax = 256 * 1024;
    public const int IdBytesMax = 128;
    public const int TextBytesMax = 256;
    public const int EvidenceRefsMax = 1000;
    public const int ChainOfCustodyMax = 64;
    public const int NonceBytes = 16;
    public const int JsonDepthMax = 16;

    /// <summary>Validators in a set. Certificates list their signers, so this bounds every certificate.</summary>
    public const int ValidatorsMax = 256;

    /// <summary>Places in a set, those of validators that have left included: an index is never given twice.</summary>
    public const int PlacesMax = 4096;

    public const int OperatorsMax = 64;

    /// <summary>Networks in the never-block list.</summary>
    public const int NeverBlockMax = 1024;

    /// <summary>Networks one policy may name.</summary>
    public const int PolicyTargetsMax = 64;

    /// <summary>Params of a policy that is to be enforced: what consumers of the control topic accept.</summary>
    public const int PolicyParamsBytesMax = 65_536;

    /// <summary>Policies that are proposed or in force.</summary>
    public const int PoliciesOpenMax = 1000;

    /// <summary>Alerts of one organisation that are remembered under one correlation key.</summary>
    public const int CorrelatedPerOrganisationMax = 16;

    /// <summary>Note of a decision.</summary>
    public const int NoteBytesMax = 512;

    /// <summary>W at most.</summary>
    public const int WindowMax = 64;

    /// <summary>A key of the state: a letter or two and a digest.</summary>
    public const int StateKeyBytesMax = 64;

    /// <summary>What a proof can show under one key: a policy with thousands of approvers is the largest.</summary>
    public const int StateValueBytesMax = 512 * 1024;

    /// <summary>Where a chunk of a snapshot ends, with the item that reaches it.</summary>
    public const int SnapshotChunkBytes = 1 << 20;

    /// <summary>A chunk and its last item; the largest are an epoch with all the places there can be and a policy that thousands have signed, some 1.5 MiB.</summary>
    public const int SnapshotChunkBytesMax = 4 << 20;

    /// <summary>Chunks of a snapshot: some 64 GiB of state.</summary>
    public const int SnapshotChunksMax = 1 << 16;

    /// <summary>Transactions one announcement names.</summary>
    public const int AnnouncedMax = 64;

    public const int NameBytesMax = 64;
    public const int ProducersMax = 10_000;

    /// <summary>Transactions one block can carry, whatever the chain parameters say.</summary>
    public const int BlockTransactionsMax = 10_000;

    /// <summary>Body bytes one block can carry, whatever the chain parameters say.</summary>
    public const int BlockBodyBytesMax = 8 << 20;

    /// <summary>Blocks one answer to a catch-up request can carry.</summary>
    public const int BlocksPerAnswerMax = 256;

    /// <summary>Body bytes after which an answer to a catch-up request is closed.</summary>
    public const int AnswerBytesTarget = 2 << 20;

    /// <summary>A frame of the mesh: the largest legal message is an answer with one block over the target size.</summary>
    public const int FrameBytesMax = 16 << 20;

    /// <summary>Attempts within a term: a view beyond this is refused (protocol, section 16).</summary>
    public const uint AttemptsMax = 1 << 16;
}
