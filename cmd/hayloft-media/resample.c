#include "resample.h"

#include <math.h>
#include <stdlib.h>

// The picture is resampled in whole numbers: taps in 1/16384, and between the
// two passes samples in 1/64. Columns go first, row by row along memory; each
// resulting row is taken apart into its bands, so that the second pass is a dot
// product of neighbours. Both loops are written for the compiler's vectoriser.

#define ONE (1 << 14)

// On x86-64 the loops exist twice, for AVX2 and for any processor.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define VECTOR __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define VECTOR
#endif

// axis holds the taps of one direction: result i is the sum over k < n of
// taps[i * n + k] times source first[i] + k. n is a multiple of 8, so there are
// up to 7 samples beyond the source's end, always with a tap of 0.
typedef struct {
	int n;
	int *first;
	int16_t *taps;
} axis;

static double catmull_rom(double x) {
	x = fabs(x);
	if (x < 1)
		return (1.5 * x - 2.5) * x * x + 1;
	if (x < 2)
		return ((-0.5 * x + 2.5) * x - 4) * x + 2;
	return 0;
}

static void axis_free(axis *a) {
	free(a->first);
	free(a->taps);
}

// weigh computes the taps for dst samples out of src: the cubic, widened by the
// ratio. Samples beyond the edge count as the edge.
static int weigh(axis *a, int dst, int src) {
	double ratio = (double) src / dst, grow = ratio > 1 ? ratio : 1, reach = 2 * grow;
	int wanted = (int) (2 * reach) + 2, used = wanted < src ? wanted : src;
	double *raw = malloc(sizeof(double) * used);

	a->n = (used + 7) & ~7;
	a->first = malloc(sizeof(int) * dst);
	a->taps = calloc((size_t) dst * a->n, sizeof(int16_t));
	if (!raw || !a->first || !a->taps) {
		free(raw);
		axis_free(a);
		return -1;
	}
	for (int i = 0; i < dst; i++) {
		double centre = (i + 0.5) * ratio - 0.5, sum = 0;
		int lo = (int) ceil(centre - reach), hi = (int) floor(centre + reach);
		int first = lo < 0 ? 0 : lo, left = ONE, most = 0;
		int16_t *taps = a->taps + (size_t) i * a->n;

		if (first > src - used)
			first = src - used;
		for (int k = 0; k < used; k++)
			raw[k] = 0;
		for (int k = lo; k <= hi; k++) {
			double v = catmull_rom((k - centre) / grow);
			int at = k - first;

			if (at < 0)
				at = 0;
			if (at >= used)
				at = used - 1;
			raw[at] += v;
			sum += v;
		}
		a->first[i] = first;
		for (int k = 0; k < used; k++) {
			taps[k] = (int16_t) lrint(raw[k] / sum * ONE);
			left -= taps[k];
			if (taps[k] > taps[most])
				most = k;
		}
		taps[most] += left; // what rounding lost
	}
	free(raw);
	return 0;
}

// add_row adds one source row, weighted, to the sums.
VECTOR static void add_row(int32_t *sums, const uint8_t *row, int16_t tap, int n) {
	for (int i = 0; i < n; i++)
		sums[i] += (int16_t) row[i] * tap;
}

// split turns sums of taps into samples in 1/64, one band after another, stride
// samples each, and leaves the sums cleared.
VECTOR static void split(int16_t *out, int32_t *sums, int w, int bands, int stride) {
	for (int b = 0; b < bands; b++)
		for (int x = 0; x < w; x++)
			out[(size_t) b * stride + x] = (int16_t) ((sums[x * bands + b] + 128) >> 8);
	for (int i = 0; i < w * bands; i++)
		sums[i] = 0;
}

// dot_row resamples one band of a row.
VECTOR static void dot_row(uint8_t *dst, int step, const int16_t *row, const axis *a, int w) {
	for (int x = 0; x < w; x++) {
		const int16_t *s = row + a->first[x], *t = a->taps + (size_t) x * a->n;
		int32_t sum = 1 << 19;

		for (int k = 0; k < a->n; k++)
			sum += s[k] * t[k];
		sum >>= 20;
		dst[x * step] = (uint8_t) (sum < 0 ? 0 : sum > 255 ? 255 : sum);
	}
}

int hl_resample(const uint8_t *src, int sw, int sh, int bands, uint8_t *dst, int dw, int dh) {
	axis ax, ay;
	int stride = sw + 8; // room for the taps of 0 behind the last sample
	int32_t *sums = calloc((size_t) sw * bands, sizeof(int32_t));
	int16_t *row = calloc((size_t) stride * bands, sizeof(int16_t));
	int failed = !sums || !row || weigh(&ax, dw, sw);

	if (!failed && weigh(&ay, dh, sh)) {
		axis_free(&ax);
		failed = 1;
	}
	for (int y = 0; !failed && y < dh; y++) {
		const int16_t *taps = ay.taps + (size_t) y * ay.n;

		for (int k = 0; k < ay.n && ay.first[y] + k < sh; k++)
			if (taps[k])
				add_row(sums, src + (size_t) (ay.first[y] + k) * sw * bands, taps[k], sw * bands);
		split(row, sums, sw, bands, stride);
		for (int b = 0; b < bands; b++)
			dot_row(dst + (size_t) y * dw * bands + b, bands, row + (size_t) b * stride, &ax, dw);
	}
	if (!failed) {
		axis_free(&ax);
		axis_free(&ay);
	}
	free(sums);
	free(row);
	return failed ? -1 : 0;
}
