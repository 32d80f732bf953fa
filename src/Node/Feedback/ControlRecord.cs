using System.Globalization;
using System.Text;
using Confluent.Kafka;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using Google.Protobuf;

namespace CyberMesh.Node.Feedback;

/// <summary>What all records on control topics have in common (docs/wire-format.md, "Control messages").</summary>
internal static class ControlRecord
{
    /// <summary>Where in the chain it comes from: stable, so a consumer can drop what it gets twice.</summary>
    /// <param name="Index">Number of the event in its block.</param>
    /// <param name="Proof">Lets whoever knows the validators' keys believe one record of any single validator.</param>
    public readonly record struct Place(Height Height, int Index, CertifiedHeader? Proof);

    /// <summary>Consumers verify over the serialisation with signature, pubkey and alg empty.</summary>
    public static ByteString Sign(ISigner control, string domain, IMessage unsigned) =>
        ByteString.CopyFrom(control.Sign([.. Encoding.UTF8.GetBytes(domain), .. unsigned.ToByteArray()]).ToArray());

    public static Headers Headers(string type, Place place, Digest digest)
    {
        var headers = new Headers
        {
            { "version", "1"u8.ToArray() },
            { "type", Encoding.UTF8.GetBytes(type) },
            { "cm-height", Encoding.UTF8.GetBytes(place.Height.ToString()) },
            { "cm-index", Encoding.UTF8.GetBytes(place.Index.ToString(CultureInfo.InvariantCulture)) },
            { "cm-digest", Encoding.UTF8.GetBytes(digest.ToString()) },
        };
        if (place.Proof is { } proof) headers.Add("cm-proof", proof.Encode());
        return headers;
    }
}
