// What vips.go needs of libvips: the picture of one file, smaller pictures of
// it, and their JPEGs. Every function returns 0, or -1 with the reason in
// vips_error_buffer(). Images are freed with g_object_unref, buffers with g_free.

#ifndef HAYLOFT_VIPS_H
#define HAYLOFT_VIPS_H

#include <vips/vips.h>

// hl_init starts libvips with every loader blocked but those named in vips.c.
int hl_init(const char *program);

// hl_has says whether this libvips has an operation.
int hl_has(const char *operation);

// hl_load decodes a file with the named loader and returns it as w × h pixels
// of 8 bits, as stored, in memory. bands is 1 (grey) or 3. converted is set
// when the numbers are no longer those of the file's own colour space.
// full_w and full_h are what the file decodes to.
int hl_load(void *buf, size_t len, const char *loader, int w, int h,
	VipsImage **out, int *converted, int *full_w, int *full_h);

// hl_upright turns a picture by its EXIF orientation, 1 to 8.
int hl_upright(VipsImage *in, int orientation, VipsImage **out);

// hl_resize returns w × h pixels, in memory.
int hl_resize(VipsImage *in, int w, int h, VipsImage **out);

// hl_square returns the middle of a picture as side × side pixels, in memory.
int hl_square(VipsImage *in, int side, VipsImage **out);

// hl_jpeg encodes a picture without any metadata.
int hl_jpeg(VipsImage *in, int quality, void **buf, size_t *len);

// hl_rgb returns a picture's pixels, three bytes each.
int hl_rgb(VipsImage *in, void **buf, size_t *len);

#endif
