using System;
using System.Globalization;
using CyberMesh.Node.Projection;

namespace CyberMesh.Node.Api;

/// <summary>What stands behind <c>/tile/</c> (C2SP tlog-tiles): a level and an index, the index in groups of three digits.</summary>
/// <param name="Level">Null for a bundle of entries.</param>
public readonly record struct TilePath(int? Level, ulong Index, int Width)
{
    private const int LevelMax = 7;

    public static bool TryParse(string path, out TilePath tile)
    {
        tile = default;
        var parts = path.Split('/');
        if (parts.Length is < 2 or > 10) return false;
        int? level = null;
        if (parts[0] != "entries")
        {
            if (!TryNumber(parts[0], LevelMax, out var number)) return false;
            level = (int)number;
        }

        var end = parts.Length;
        ulong width = LogCopy.TileWidth;
        if (parts[^2].EndsWith(".p", StringComparison.Ordinal))
        {
            if (!TryNumber(parts[^1], LogCopy.TileWidth - 1, out width) || width == 0) return false;
            end--;
            parts[end - 1] = parts[end - 1][..^2];
        }

        ulong index = 0;
        for (var i = 1; i < end; i++)
        {
            var group = parts[i];
            if (i < end - 1)
            {
                if (group.Length != 4 || group[0] != 'x') return false;
                group = group[1..];
            }

            if (group.Length != 3 || !ushort.TryParse(group, NumberStyles.None, CultureInfo.InvariantCulture, out var digits)) return false;
            if (index > ulong.MaxValue / 1000 / 1000) return false;
            index = (index * 1000) + digits;
        }

        tile = new TilePath(level, index, (int)width);
        return tile.ToString() == path;
    }

    public override string ToString()
    {
        var text = (Index % 1000).ToString("000", CultureInfo.InvariantCulture);
        for (var rest = Index / 1000; rest > 0; rest /= 1000) text = string.Create(CultureInfo.InvariantCulture, $"x{rest % 1000:000}/{text}");
        var level = Level?.ToString(CultureInfo.InvariantCulture) ?? "entries";
        return Width == LogCopy.TileWidth ? $"{level}/{text}" : string.Create(CultureInfo.InvariantCulture, $"{level}/{text}.p/{Width}");
    }

    private static bool TryNumber(string text, ulong max, out ulong number) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number <= max && number.ToString(CultureInfo.InvariantCulture) == text;
}
