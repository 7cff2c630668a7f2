#include "vips.h"
#include "resample.h"

#include <string.h>

// The loaders that may run. They are named by type, so that a libvips with more
// of them than we know of gains nothing.
static const char *allowed[] = {
	"VipsForeignLoadJpegBuffer", "VipsForeignLoadPngBuffer",
	"VipsForeignLoadWebpBuffer", "VipsForeignLoadNsgifBuffer",
	"VipsForeignLoadHeifBuffer",
};

int hl_init(const char *program) {
	if (vips_init(program))
		return -1;
	vips_concurrency_set(1);
	vips_cache_set_max(0);
	vips_block_untrusted_set(TRUE);
	vips_operation_block_set("VipsForeignLoad", TRUE);
	for (size_t i = 0; i < G_N_ELEMENTS(allowed); i++)
		vips_operation_block_set(allowed[i], FALSE);
	return 0;
}

int hl_has(const char *operation) {
	return vips_type_find("VipsOperation", operation) != 0;
}

// load opens a file for reading from top to bottom, shrunk by the decoder
// where it can do so.
static int load(void *buf, size_t len, const char *loader, int shrink, VipsImage **out) {
	if (strcmp(loader, "jpegload_buffer") == 0)
		return vips_jpegload_buffer(buf, len, out, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, "shrink", shrink, NULL);
	if (strcmp(loader, "pngload_buffer") == 0)
		return vips_pngload_buffer(buf, len, out, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	if (strcmp(loader, "webpload_buffer") == 0)
		return vips_webpload_buffer(buf, len, out, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	if (strcmp(loader, "gifload_buffer") == 0)
		return vips_gifload_buffer(buf, len, out, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	if (strcmp(loader, "heifload_buffer") == 0)
		return vips_heifload_buffer(buf, len, out, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	vips_error("hayloft", "no loader %s", loader);
	return -1;
}

// plain converts to 8 bits of grey or sRGB, laid on white.
static int plain(VipsObject *scope, VipsImage *in, VipsImage **out, int *converted) {
	VipsImage **t = (VipsImage **) vips_object_local_array(scope, 3);
	VipsInterpretation space = vips_image_get_interpretation(in);
	gboolean grey = space == VIPS_INTERPRETATION_B_W || space == VIPS_INTERPRETATION_GREY16;
	gboolean rgb = space == VIPS_INTERPRETATION_sRGB || space == VIPS_INTERPRETATION_RGB16;

	*converted = !grey && !rgb;
	if (vips_colourspace(in, &t[0],
			grey ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB, NULL))
		return -1;
	in = t[0];
	if (vips_image_hasalpha(in)) {
		VipsArrayDouble *white = vips_array_double_newv(1, 255.0);
		int failed = vips_flatten(in, &t[1], "background", white, NULL);
		vips_area_unref(VIPS_AREA(white));
		if (failed)
			return -1;
		in = t[1];
	}
	if (vips_cast_uchar(in, &t[2], NULL))
		return -1;
	*out = t[2];
	return 0;
}

// into_memory computes a lazy picture.
static int into_memory(VipsImage *in, VipsImage **out) {
	*out = vips_image_copy_memory(in);
	return *out ? 0 : -1;
}

// resize returns a picture of w × h; it belongs to scope.
static int resize(VipsObject *scope, VipsImage *in, int w, int h, VipsImage **out) {
	VipsImage **t = (VipsImage **) vips_object_local_array(scope, 2);
	uint8_t *pixels;

	if (in->Xsize == w && in->Ysize == h) {
		*out = in;
		return 0;
	}
	if (in->Bands > 3 || in->BandFmt != VIPS_FORMAT_UCHAR) {
		vips_error("hayloft", "a picture of %d bands", in->Bands);
		return -1;
	}
	if (into_memory(in, &t[0]))
		return -1;
	t[1] = vips_image_new_memory();
	vips_image_init_fields(t[1], w, h, in->Bands, VIPS_FORMAT_UCHAR, VIPS_CODING_NONE, in->Type, 1, 1);
	if (vips_image_write_prepare(t[1]))
		return -1;
	pixels = (uint8_t *) VIPS_IMAGE_ADDR(t[1], 0, 0);
	if (hl_resample((uint8_t *) VIPS_IMAGE_ADDR(t[0], 0, 0), t[0]->Xsize, t[0]->Ysize, in->Bands, pixels, w, h)) {
		vips_error("hayloft", "out of memory");
		return -1;
	}
	*out = t[1];
	return 0;
}

static int load_in(VipsObject *scope, void *buf, size_t len, const char *loader, int w, int h,
	VipsImage **out, int *converted, int *full_w, int *full_h) {
	VipsImage **t = (VipsImage **) vips_object_local_array(scope, 2);
	VipsImage *in;
	int shrink = 1;

	if (load(buf, len, loader, 1, &t[0])) // reads the header alone
		return -1;
	*full_w = t[0]->Xsize;
	*full_h = t[0]->Ysize;
	// A JPEG can be decoded at a half, a quarter or an eighth for less than the
	// price of the whole, and the rest has fewer pixels to resample.
	while (shrink < 8 && *full_w / (shrink * 2) >= w && *full_h / (shrink * 2) >= h)
		shrink *= 2;
	if (load(buf, len, loader, shrink, &t[1]) || plain(scope, t[1], &in, converted) ||
		resize(scope, in, w, h, &in))
		return -1;
	return into_memory(in, out);
}

int hl_load(void *buf, size_t len, const char *loader, int w, int h,
	VipsImage **out, int *converted, int *full_w, int *full_h) {
	VipsObject *scope = (VipsObject *) vips_image_new();
	int failed = load_in(scope, buf, len, loader, w, h, out, converted, full_w, full_h);

	g_object_unref(scope);
	return failed;
}

int hl_upright(VipsImage *in, int orientation, VipsImage **out) {
	VipsObject *scope = (VipsObject *) vips_image_new();
	VipsImage **t = (VipsImage **) vips_object_local_array(scope, 2);
	gboolean mirrored = orientation == 2 || orientation == 4 || orientation == 5 || orientation == 7;
	VipsAngle angle = VIPS_ANGLE_D0;
	int failed;

	switch (orientation) {
	case 3: case 4: angle = VIPS_ANGLE_D180; break;
	case 5: case 6: angle = VIPS_ANGLE_D90; break;
	case 7: case 8: angle = VIPS_ANGLE_D270; break;
	}
	// Each of the eight is a turn, and for four of them a flip from left to right
	// after it: a mirror on a diagonal is a quarter turn and a flip.
	failed = vips_rot(in, &t[0], angle, NULL) ||
		(mirrored && vips_flip(t[0], &t[1], VIPS_DIRECTION_HORIZONTAL, NULL)) ||
		into_memory(mirrored ? t[1] : t[0], out);
	g_object_unref(scope);
	return failed ? -1 : 0;
}

int hl_resize(VipsImage *in, int w, int h, VipsImage **out) {
	VipsObject *scope = (VipsObject *) vips_image_new();
	VipsImage *small;
	int failed = resize(scope, in, w, h, &small) || into_memory(small, out);

	g_object_unref(scope);
	return failed ? -1 : 0;
}

int hl_square(VipsImage *in, int side, VipsImage **out) {
	VipsObject *scope = (VipsObject *) vips_image_new();
	VipsImage **t = (VipsImage **) vips_object_local_array(scope, 1);
	VipsImage *small;
	int c = VIPS_MIN(in->Xsize, in->Ysize);
	int failed = vips_extract_area(in, &t[0], (in->Xsize - c) / 2, (in->Ysize - c) / 2, c, c, NULL) ||
		resize(scope, t[0], side, side, &small) || into_memory(small, out);

	g_object_unref(scope);
	return failed ? -1 : 0;
}

int hl_jpeg(VipsImage *in, int quality, void **buf, size_t *len) {
	return vips_jpegsave_buffer(in, buf, len, "Q", quality, "strip", TRUE, NULL);
}

int hl_rgb(VipsImage *in, void **buf, size_t *len) {
	VipsImage *rgb;
	int failed = vips_colourspace(in, &rgb, VIPS_INTERPRETATION_sRGB, NULL);

	if (failed)
		return -1;
	*buf = vips_image_write_to_memory(rgb, len);
	g_object_unref(rgb);
	return *buf ? 0 : -1;
}
