/* The files of data/ that vocab.c and pieces.c read, as they are. */
	.section .rodata
	.global vocab_tiktoken, vocab_tiktoken_end, vocab_classes, vocab_classes_end
vocab_tiktoken:
	.incbin "data/gpt2.tiktoken"
vocab_tiktoken_end:
	.byte 0
vocab_classes:
	.incbin "data/unicode_classes.tsv"
vocab_classes_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
