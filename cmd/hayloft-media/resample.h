// Making pictures smaller. libvips' own resampler was the dearest step of all
// (docs/decisions/051-resampling.md).

#ifndef HAYLOFT_RESAMPLE_H
#define HAYLOFT_RESAMPLE_H

#include <stdint.h>

// hl_resample writes dw × dh pixels to dst out of sw × sh of src, both without
// gaps, bands bytes per pixel (1 to 3). It returns 0, or -1 without memory.
int hl_resample(const uint8_t *src, int sw, int sh, int bands, uint8_t *dst, int dw, int dh);

#endif
