/* The site's own files, as they are; its script is several files in this order. */
	.section .rodata
	.global site_html, site_html_end, site_css, site_css_end, site_js, site_js_end
site_html:
	.incbin "tools/htmlgen.html"
site_html_end:
	.byte 0
site_css:
	.incbin "tools/htmlgen.css"
site_css_end:
	.byte 0
site_js:
	.incbin "tools/htmlgen.js"
	.incbin "tools/htmlgen_text.js"
	.incbin "tools/htmlgen_words.js"
	.incbin "tools/htmlgen_charts.js"
	.incbin "tools/htmlgen_curves.js"
	.incbin "tools/htmlgen_table.js"
	.incbin "tools/htmlgen_index.js"
	.incbin "tools/htmlgen_example.js"
	.incbin "tools/htmlgen_feature.js"
	.incbin "tools/htmlgen_texts.js"
	.incbin "tools/htmlgen_search.js"
site_js_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
