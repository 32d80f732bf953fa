using System;
using System.Buffers.Binary;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// Walks the fields of a protobuf message without copying. Strict where the format is loose: no groups, no field 0,
/// no varint over ten bytes. It also notes whether the bytes are the canonical form (ascending fields, shortest
/// varints, no default values), which profile v2 demands because its signature is over exactly those bytes.
/// </summary>
internal ref struct ProtobufWalk(ReadOnlySpan<byte> message)
{
    private readonly ReadOnlySpan<byte> _message = message;
    private int _position;
    private uint _previousField;

    public uint Field { get; private set; }
    public int WireType { get; private set; }

    /// <summary>Value of a varint (wire type 0) or the raw bits of a fixed field (1 and 5).</summary>
    public ulong Number { get; private set; }

    /// <summary>Content of a length-delimited field (wire type 2).</summary>
    public ReadOnlySpan<byte> Bytes { get; private set; }

    /// <summary>Where the current field starts, tag included.</summary>
    public int Start { get; private set; }

    /// <summary>Where the current field ends.</summary>
    public readonly int End => _position;

    public bool Malformed { get; private set; }
    public bool Canonical { get; private set; } = true;

    /// <summary>Moves to the next field; false at the end or when the bytes are no protobuf (<see cref="Malformed"/>).</summary>
    public bool Next()
    {
        if (Malformed || _position == _message.Length) return false;
        Start = _position;
        if (!Varint(out var tag) || tag > uint.MaxValue || tag >> 3 == 0) return Fail();
        Field = (uint)(tag >> 3);
        WireType = (int)(tag & 7);
        Bytes = default;
        Number = 0;
        if (!ReadValue()) return Fail();
        if (Field < _previousField) Canonical = false;
        if (Bytes.IsEmpty && Number == 0) Canonical = false;
        _previousField = Field;
        return true;
    }

    private bool ReadValue()
    {
        switch (WireType)
        {
            case 0:
                if (!Varint(out var value)) return false;
                Number = value;
                return true;
            case 1:
                if (_message.Length - _position < 8) return false;
                Number = BinaryPrimitives.ReadUInt64LittleEndian(_message[_position..]);
                _position += 8;
                return true;
            case 2:
                if (!Varint(out var length) || length > (ulong)(_message.Length - _position)) return false;
                Bytes = _message.Slice(_position, (int)length);
                _position += (int)length;
                return true;
            case 5:
                if (_message.Length - _position < 4) return false;
                Number = BinaryPrimitives.ReadUInt32LittleEndian(_message[_position..]);
                _position += 4;
                return true;
            default:
                return false;
        }
    }

    private bool Varint(out ulong value)
    {
        value = 0;
        for (var shift = 0; shift < 70; shift += 7)
        {
            if (_position == _message.Length) return false;
            var next = _message[_position++];
            if (shift == 63 && next > 1) return false;
            value |= (ulong)(next & 0x7f) << shift;
            if (next >= 0x80) continue;
            if (next == 0 && shift > 0) Canonical = false;
            return true;
        }

        return false;
    }

    private bool Fail()
    {
        Malformed = true;
        return false;
    }
}
