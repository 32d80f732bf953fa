#!/usr/bin/env bash
# Everything CI runs. Usage: ./test.sh [--seeds N] [--signatures N] [--fuzz-seconds N] [--chaos-seed N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 CYBERMESH_SEEDS=1000 CYBERMESH_SIGNATURES=350000 CYBERMESH_FUZZ_SECONDS=10 CYBERMESH_CHAOS_SEED=1
while [ $# -gt 1 ]; do
  case $1 in
    --seeds) export CYBERMESH_SEEDS=$2 ;;
    --signatures) export CYBERMESH_SIGNATURES=$2 ;;
    --chaos-seed) export CYBERMESH_CHAOS_SEED=$2 ;;
    --fuzz-seconds) export CYBERMESH_FUZZ_SECONDS=$2 ;;
  esac
  shift 2
done

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "restore, exactly the locked versions"
dotnet restore CyberMesh.slnx --locked-mode --verbosity quiet
step "build, warnings are errors"
dotnet build CyberMesh.slnx --configuration Release --no-restore --nologo --verbosity quiet
touch src/Cli/bin/Release/net10.0/cybermesh.dll
step "format"
dotnet format whitespace CyberMesh.slnx --verify-no-changes --no-restore

step "the verifier as one native file"
if ! command -v clang > /dev/null || [ ! -e /usr/include/zlib.h ]; then
  if [ "$(id -u)" -ne 0 ]; then echo "clang or zlib is missing; install them with: sudo apt-get install clang zlib1g-dev" >&2; exit 1; fi
  apt-get update -qq && apt-get install -y -qq --no-install-recommends clang zlib1g-dev > /dev/null
fi
rm -rf artifacts/verify
dotnet publish src/Verify --runtime "linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')" --output artifacts/verify --nologo --verbosity quiet
proofs=tests/Node.Tests/Proofs
artifacts/verify/cybermesh-verify $proofs/alert.tlog-proof --policy $proofs/trust.policy --message $proofs/alert.record
if artifacts/verify/cybermesh-verify <(sed 's/^index .*/index 1/' $proofs/alert.tlog-proof) --policy $proofs/trust.policy; then echo "a changed proof passed" >&2; exit 1; fi

# The commands of the papers, which the tests run, use the first two; keys in a token are tested with the third.
for tool in curl:curl openssl:openssl softhsm2-util:softhsm2; do
  if command -v "${tool%:*}" > /dev/null; then continue; fi
  if [ "$(id -u)" -ne 0 ]; then echo "${tool%:*} is missing; install it with: sudo apt-get install ${tool#*:}" >&2; exit 1; fi
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${tool#*:}" > /dev/null
done

step "two builds in two places are the same, and what is in them"
if git rev-parse --verify --quiet HEAD > /dev/null 2>&1; then
  places=$(mktemp -d)
  for place in one two/deeper; do
    git clone --quiet . "$places/$place"
    (cd "$places/$place" && dotnet build src/Cli --configuration Release --nologo --verbosity quiet -p:ContinuousIntegrationBuild=true -p:RunAnalyzers=false > /dev/null && cd src/Cli/bin/Release/net10.0 && sha256sum cybermesh.dll CyberMesh.*.dll) > "$places/sums-${place%%/*}"
  done
  diff "$places/sums-one" "$places/sums-two"
  cat "$places/sums-one"
  rm -rf "$places"
else
  echo "left out: this is no git checkout"
fi
dotnet run build/sbom.cs -- 0 | grep -c '"purl"'

step "a database server for the tests"
if ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 && [ -z "${TEST_DB_DSN:-}" ]; then
  if [ "$(id -u)" -ne 0 ]; then echo "PostgreSQL is missing; install it with: sudo apt-get install postgresql" >&2; exit 1; fi
  # Only its programs: the tests start a server of their own.
  mkdir -p /etc/postgresql-common && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
  apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql > /dev/null
fi

step "the main job, as the README runs it"
./cybermesh demo --duration 5s --api-port 0

passed=0 failed=0
step "two minutes of chaos"
if ./cybermesh chaos --duration 2m --seed "$CYBERMESH_CHAOS_SEED" --postgres; then passed=$((passed + 1)); else failed=$((failed + 1)); fi

for suite in Core Architecture Planted Node; do
  step "$suite tests"
  log=$(mktemp)
  live=; if [ "$suite" = Planted ]; then live=-showLiveOutput; fi # bug x layer x seconds
  # Whole clusters run in the Node suite: with more than a few at a time they meet one another's timeouts.
  parallel="-parallelAlgorithm aggressive"; if [ "$suite" = Node ]; then parallel="-parallelAlgorithm conservative -maxThreads 4"; fi
  "tests/$suite.Tests/bin/Release/net10.0/CyberMesh.$suite.Tests" -noColor $parallel $live | sed -u 's/^.*\[OUTPUT\] /  /' | tee "$log" || true
  line=$(grep -E "CyberMesh\.$suite\.Tests +Total: " "$log" || true)
  rm -f "$log"
  total=$(sed -nE 's/.*Total: ([0-9]+).*/\1/p' <<< "$line")
  bad=$(sed -nE 's/.*Errors: ([0-9]+), Failed: ([0-9]+).*/\1 + \2/p' <<< "$line")
  skipped=$(sed -nE 's/.*Skipped: ([0-9]+).*/\1/p' <<< "$line")
  if [ -z "$total" ] || [ "$total" -eq 0 ]; then
    echo "the $suite suite ran no test"
    failed=$((failed + 1))
    continue
  fi
  bad=$((bad))
  passed=$((passed + total - bad - skipped))
  failed=$((failed + bad))
done

step "each micro-benchmark once"
tests/Benchmarks/bin/Release/net10.0/CyberMesh.Benchmarks --filter '*' --job dry --artifacts "$(mktemp -d)" | grep '^| '

step "fuzzing"
if ./fuzz.sh --seconds "$CYBERMESH_FUZZ_SECONDS"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi

step "done"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
