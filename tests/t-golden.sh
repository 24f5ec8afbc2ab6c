# The reference's numbers, replayed on every backend and instruction set.
exec "${BIN:-out/bin}/tests/golden" --isas "$(dirname "$0")/fixtures/golden"
