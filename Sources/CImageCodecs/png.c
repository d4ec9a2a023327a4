#include "CImageCodecs.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

typedef struct {
  const uint8_t *bytes;
  size_t count;
  size_t position;
} Source;

static void read_bytes(png_structp png, png_bytep target, size_t count) {
  Source *source = png_get_io_ptr(png);
  if (count > source->count - source->position)
    png_error(png, "file is truncated");
  memcpy(target, source->bytes + source->position, count);
  source->position += count;
}

static void on_error(png_structp png, png_const_charp text) {
  snprintf(png_get_error_ptr(png), FOVEA_MESSAGE_LENGTH, "%s", text);
  png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {}

static png_structp make_reader(Source *source, png_infop *info, char *message) {
  message[0] = 0;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, message, on_error, on_warning);
  if (png == NULL)
    return NULL;
  *info = png_create_info_struct(png);
  if (*info == NULL) {
    png_destroy_read_struct(&png, NULL, NULL);
    return NULL;
  }
  png_set_read_fn(png, source, read_bytes);
  png_set_user_limits(png, 0x7fffffff, 0x7fffffff); // the caller has its own limit, and says it more clearly
  png_set_chunk_malloc_max(png, 8000000);
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
  return png;
}

static int out_of_memory(char *message) {
  snprintf(message, FOVEA_MESSAGE_LENGTH, "out of memory");
  return FOVEA_IMAGE_OUT_OF_MEMORY;
}

int fovea_png_size(const uint8_t *bytes, size_t count, uint32_t *width, uint32_t *height, char *message) {
  Source source = {bytes, count, 0};
  png_infop info;
  png_structp png = make_reader(&source, &info, message);
  if (png == NULL)
    return out_of_memory(message);
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, NULL);
    return FOVEA_IMAGE_DAMAGED;
  }
  png_read_info(png, info);
  *width = png_get_image_width(png, info);
  *height = png_get_image_height(png, info);
  png_destroy_read_struct(&png, &info, NULL);
  return FOVEA_IMAGE_OK;
}

int fovea_png_decode(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb, char *message) {
  Source source = {bytes, count, 0};
  png_infop info;
  png_structp png = make_reader(&source, &info, message);
  if (png == NULL)
    return out_of_memory(message);
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, NULL);
    return FOVEA_IMAGE_DAMAGED;
  }
  png_read_info(png, info);
  // Any kind of PNG becomes 8-bit RGB; transparency is dropped, not composited, and the high byte of 16 bits is kept.
  png_set_strip_16(png);
  png_set_expand(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  size_t row_bytes = png_get_rowbytes(png, info);
  if (png_get_image_width(png, info) != width || png_get_image_height(png, info) != height ||
      row_bytes != (size_t)width * 3) {
    png_error(png, "size differs from its header");
  }
  for (int pass = 0; pass < passes; pass++) {
    for (uint32_t y = 0; y < height; y++)
      png_read_row(png, rgb + y * row_bytes, NULL);
  }
  png_destroy_read_struct(&png, &info, NULL);
  return FOVEA_IMAGE_OK;
}

int fovea_png_encode(const uint8_t *rgb, uint32_t width, uint32_t height, uint8_t **bytes, size_t *count,
                     char *message) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = PNG_FORMAT_RGB;
  message[0] = 0;
  png_alloc_size_t length = PNG_IMAGE_PNG_SIZE_MAX(image);
  uint8_t *buffer = malloc(length);
  if (buffer == NULL)
    return out_of_memory(message);
  if (!png_image_write_to_memory(&image, buffer, &length, 0, rgb, 0, NULL)) {
    snprintf(message, FOVEA_MESSAGE_LENGTH, "%s", image.message);
    png_image_free(&image);
    free(buffer);
    return FOVEA_IMAGE_DAMAGED;
  }
  *bytes = buffer;
  *count = length;
  return FOVEA_IMAGE_OK;
}
