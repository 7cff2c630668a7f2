// Runs hl_resample over random shapes under the compiler's sanitizers: no byte
// beyond a buffer, no overflow, and a flat picture stays flat. The seed is the
// first argument.

#include "../resample.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
	unsigned seed = argc > 1 ? (unsigned) strtoul(argv[1], NULL, 10) : 1;

	srand(seed);
	for (int i = 0; i < 1500; i++) {
		int sw = 1 + rand() % 200, sh = 1 + rand() % 200, bands = 1 + rand() % 3;
		int dw = 1 + rand() % sw, dh = 1 + rand() % sh, flat = i % 2 ? rand() % 256 : -1;

		if (i % 50 == 0) {
			sw = 65000;
			sh = 3;
			dw = 1 + rand() % 1080;
			dh = 1 + rand() % 3;
		}
		size_t n = (size_t) sw * sh * bands, m = (size_t) dw * dh * bands;
		uint8_t *src = malloc(n), *dst = malloc(m);

		for (size_t k = 0; k < n; k++) // the harshest contrast, or none
			src[k] = (uint8_t) (flat < 0 ? (rand() % 2 ? 255 : 0) : flat);
		if (hl_resample(src, sw, sh, bands, dst, dw, dh))
			return 1;
		for (size_t k = 0; flat >= 0 && k < m; k++)
			if (dst[k] != flat) {
				printf("%d became %d: %d x %d to %d x %d\n", flat, dst[k], sw, sh, dw, dh);
				return 1;
			}
		free(src);
		free(dst);
	}
	return 0;
}
