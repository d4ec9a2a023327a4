// libjpeg-turbo, libpng and libwebp behind plain functions. Their errors leave by longjmp, which must never cross a
// Swift frame, so it is caught here; what comes back is a status and one line of text.
//
// Every function returns 0, or a FoveaStatus with `message` set (zero-terminated, one line).
// Decoders work in two calls so that the caller can refuse a hostile size before it allocates: first the size from the
// header alone, then the pixels into a buffer of width·height·3 bytes, rows top-down, R G B.
#ifndef FOVEA_IMAGE_CODECS_H
#define FOVEA_IMAGE_CODECS_H

#include <stddef.h>
#include <stdint.h>

#define FOVEA_MESSAGE_LENGTH 256

typedef enum {
  FOVEA_IMAGE_OK = 0,
  FOVEA_IMAGE_DAMAGED = 1, // the data are not a whole, valid picture
  FOVEA_IMAGE_OUT_OF_MEMORY = 2,
} FoveaStatus;

int fovea_jpeg_size(const uint8_t *bytes, size_t count, uint32_t *width, uint32_t *height, char *message);
int fovea_jpeg_decode(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb, char *message);

int fovea_png_size(const uint8_t *bytes, size_t count, uint32_t *width, uint32_t *height, char *message);
int fovea_png_decode(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb, char *message);

/// An animation's size is its canvas; its pixels are the first frame.
int fovea_webp_size(const uint8_t *bytes, size_t count, uint32_t *width, uint32_t *height, char *message);
int fovea_webp_decode(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb, char *message);

/// Encoders put a malloc'ed buffer in `*bytes`, which the caller frees.
int fovea_jpeg_encode(const uint8_t *rgb, uint32_t width, uint32_t height, int quality, uint8_t **bytes, size_t *count,
                      char *message);
int fovea_png_encode(const uint8_t *rgb, uint32_t width, uint32_t height, uint8_t **bytes, size_t *count,
                     char *message);

#endif
