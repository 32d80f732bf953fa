namespace CyberMesh.Core.Encoding;

/// <summary>Why bytes were not accepted as the canonical form of a value.</summary>
public enum DecodeError
{
    None = 0,
    Truncated,
    TrailingBytes,
    LengthBeyondLimit,
    UnknownTag,
    UnsupportedVersion,
    NotCanonical,
    OutOfRange,
}
