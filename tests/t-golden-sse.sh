# The reference's numbers once more, with oneDNN held to what every x86-64 of the last fifteen years has.
DNNL_MAX_CPU_ISA=SSE41 exec "${BIN:-out/bin}/tests/golden" --isas "$(dirname "$0")/fixtures/golden"
