# The reference's numbers, replayed on every backend.
exec "${BIN:-out/bin}/tests/golden" "$(dirname "$0")/fixtures/golden"
