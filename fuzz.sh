#!/usr/bin/env bash
# Fuzzing with AFL++ (Debian: afl++). Usage: ./fuzz.sh [--seconds N] [TARGET…]; N seconds for each target, 60 by default.
# Exits 1 on a finding, when a target was not run, or when the planted fault of the canary was not found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
seconds=60
if [ "${1:-}" = --seconds ]; then seconds=$2; shift 2; fi

if ! command -v afl-fuzz > /dev/null; then
  if [ "$(id -u)" -ne 0 ]; then echo "afl-fuzz is missing; install it with: sudo apt-get install afl++" >&2; exit 1; fi
  apt-get update -qq && apt-get install -y -qq --no-install-recommends afl++ > /dev/null
fi

out=artifacts/fuzz
rm -rf "$out"
dotnet tool restore > /dev/null
dotnet publish tests/Fuzz/CyberMesh.Fuzz.csproj --configuration Release --nologo --verbosity quiet --output "$out/bin"
for assembly in CyberMesh.Core CyberMesh.Fuzz.Targets; do dotnet sharpfuzz "$out/bin/$assembly.dll"; done
dotnet sharpfuzz "$out/bin/CyberMesh.Node.dll" CyberMesh.Node.Crypto.KnownKeys

targets=("$@")
if [ $# -eq 0 ]; then targets=(canary); for corpus in tests/Fuzz.Targets/Corpus/*/; do name=$(basename "$corpus"); [ "$name" = canary ] || targets+=("$name"); done; fi

# One instance is enough for a short run; the machine's own core pattern and frequency settings are left alone.
export AFL_SKIP_BIN_CHECK=1 AFL_SKIP_CPUFREQ=1 AFL_NO_AFFINITY=1 AFL_NO_UI=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_TRY_AFFINITY=0
# An allocation bomb shows as a finding.
export DOTNET_GCHeapHardLimit=0x10000000
bad=0
printf '%-10s %12s %10s %8s\n' target executions corpus findings
for target in "${targets[@]}"; do
  stop=(-V "$seconds")
  [ "$target" = canary ] && stop=(-V 60 -E 2000000)
  AFL_BENCH_UNTIL_CRASH=$([ "$target" = canary ] && echo 1 || echo) \
    afl-fuzz -i "tests/Fuzz.Targets/Corpus/$target" -o "$out/$target" -t 10000 -m none "${stop[@]}" \
    -- dotnet "$out/bin/CyberMesh.Fuzz.dll" "$target" > "$out/$target.log" 2>&1 || true
  stats=$out/$target/default/fuzzer_stats
  if [ ! -f "$stats" ]; then echo "$target did not run:"; tail -20 "$out/$target.log"; bad=1; continue; fi
  value() { sed -nE "s/^$1 *: *([0-9]+).*/\1/p" "$stats"; }
  findings=$(( $(value saved_crashes) + $(value saved_hangs) ))
  printf '%-10s %12s %10s %8s\n' "$target" "$(value execs_done)" "$(value corpus_count)" "$findings"
  if [ "$(value execs_done)" -eq 0 ]; then bad=1; fi
  if [ "$target" = canary ]; then
    if [ "$findings" -eq 0 ]; then echo "the planted fault of the canary was not found: this run proves nothing"; bad=1; fi
  elif [ "$findings" -gt 0 ]; then
    ls "$out/$target/default/crashes" "$out/$target/default/hangs"
    bad=1
  fi
done
exit "$bad"
