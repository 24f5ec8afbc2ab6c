/* What tools/vocab-make wrote. */
	.section .rodata
	.global vocab_gpt2
	.balign 64
vocab_gpt2:
	.incbin VOCAB
	.section .note.GNU-stack, "", %progbits
