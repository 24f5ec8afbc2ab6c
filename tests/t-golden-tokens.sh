# Lines on which public GPT-2 tokenizers agree, or where the right answer is known.
exec "${BIN:-out/bin}/tests/golden-tokens" "$(dirname "$0")"/fixtures/tokens/*
