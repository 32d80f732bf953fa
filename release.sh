#!/usr/bin/env bash
# Makes what is released, in out/release: the program as a .NET tool and as a self-contained archive, the verifier as one native file, the bill of materials and checksums.
# The version is that of git: a tag v1.2.3, or 0.1.0-dev.N+COMMIT for the Nth commit.
set -euo pipefail
cd "$(dirname "$0")"
out=${1:-out/release}
rid=linux-x64
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2> /dev/null); then version=${tag#v}
else version="0.1.0-dev.$(git rev-list --count HEAD)+$(git rev-parse --short=12 HEAD)"; fi
if [ -n "$(git status --porcelain)" ]; then echo "the working tree has changes; release what is committed" >&2; exit 1; fi
rm -rf "$out" && mkdir -p "$out"
flags=(--configuration Release --nologo --verbosity quiet -p:ContinuousIntegrationBuild=true "-p:Version=$version" -p:IncludeSourceRevisionInInformationalVersion=false)
# Dates in archives are those of the commit, so that the same commit gives the same bytes.
export SOURCE_DATE_EPOCH; SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)

dotnet restore --locked-mode --verbosity quiet
dotnet pack src/Cli --no-restore "${flags[@]}" -p:PackAsTool=true -p:ToolCommandName=cybermesh -p:PackageId=CyberMesh -p:IsPackable=true --output "$out"
dotnet publish src/Cli "${flags[@]}" --runtime "$rid" --self-contained --output "$out/stage/cybermesh-$version"
cp README.md LICENSE CHANGELOG.md "$out/stage/cybermesh-$version/" && cp -r docs deploy "$out/stage/cybermesh-$version/"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --create --directory "$out/stage" "cybermesh-$version" | gzip --no-name > "$out/cybermesh-$version-$rid.tar.gz"
dotnet publish src/Verify "${flags[@]}" --runtime "$rid" --output "$out/stage/verify"
cp "$out/stage/verify/cybermesh-verify" "$out/cybermesh-verify-$version-$rid"
rm -rf "$out/stage"
dotnet run build/sbom.cs -- "$version" > "$out/cybermesh-$version.cdx.json"
(cd "$out" && sha256sum -- * > SHA256SUMS && cat SHA256SUMS)
