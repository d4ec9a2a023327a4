#include "CImageCodecs.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
// Which codes there are depends on the version, so jpeglib.h comes first.
#include <jerror.h>

// A progressive file may repeat its scans without end, each costing a pass over the whole picture.
#define MAXIMUM_SCANS 200

typedef struct {
  struct jpeg_error_mgr base; // first, so that a jpeg_error_mgr pointer is also a pointer to this
  jmp_buf escape;
  char *message;
  bool truncated; // the file ended before its end marker
} Errors;

static void format(j_common_ptr info, char *message) {
  char text[JMSG_LENGTH_MAX];
  (*info->err->format_message)(info, text);
  snprintf(message, FOVEA_MESSAGE_LENGTH, "%s", text);
}

static void on_error(j_common_ptr info) {
  Errors *errors = (Errors *)info->err;
  format(info, errors->message);
  longjmp(errors->escape, 1);
}

// libjpeg only warns when picture data are missing and paints the rest grey. Such a picture must not be trained on;
// harmless oddities (bytes before a marker, an odd JFIF version) pass.
static void on_message(j_common_ptr info, int level) {
  if (level >= 0)
    return;
  Errors *errors = (Errors *)info->err;
  switch (info->err->msg_code) {
  case JWRN_JPEG_EOF:
    errors->truncated = true;
    break;
  case JWRN_HIT_MARKER:
  case JWRN_HUFF_BAD_CODE:
  case JWRN_ARITH_BAD_CODE:
  case JWRN_MUST_RESYNC:
    on_error(info);
  }
}

static void on_progress(j_common_ptr info) {
  if (info->is_decompressor && ((j_decompress_ptr)info)->input_scan_number > MAXIMUM_SCANS) {
    Errors *errors = (Errors *)info->err;
    snprintf(errors->message, FOVEA_MESSAGE_LENGTH, "more than %d progressive scans", MAXIMUM_SCANS);
    longjmp(errors->escape, 1);
  }
}

static struct jpeg_error_mgr *install(Errors *errors, char *message) {
  struct jpeg_error_mgr *base = jpeg_std_error(&errors->base);
  base->error_exit = on_error;
  base->emit_message = on_message;
  errors->message = message;
  errors->truncated = false;
  message[0] = 0;
  return base;
}

int fovea_jpeg_size(const uint8_t *bytes, size_t count, uint32_t *width, uint32_t *height, char *message) {
  struct jpeg_decompress_struct info;
  Errors errors;
  memset(&info, 0, sizeof info);
  info.err = install(&errors, message);
  if (setjmp(errors.escape)) {
    jpeg_destroy_decompress(&info);
    return FOVEA_IMAGE_DAMAGED;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, bytes, count);
  jpeg_read_header(&info, TRUE);
  *width = info.image_width;
  *height = info.image_height;
  jpeg_destroy_decompress(&info);
  return FOVEA_IMAGE_OK;
}

static inline uint8_t multiply255(unsigned a, unsigned b) {
  unsigned product = a * b + 128;
  return (uint8_t)((product + (product >> 8)) >> 8);
}

// Adobe writes its inks inverted (255 = no ink), others as they are.
static void inks_to_rgb(const uint8_t *cmyk, uint32_t width, bool inverted, uint8_t *rgb) {
  uint8_t flip = inverted ? 0 : 255;
  for (uint32_t x = 0; x < width; x++, cmyk += 4, rgb += 3) {
    uint8_t paper = cmyk[3] ^ flip;
    rgb[0] = paper - multiply255(255 - (cmyk[0] ^ flip), paper);
    rgb[1] = paper - multiply255(255 - (cmyk[1] ^ flip), paper);
    rgb[2] = paper - multiply255(255 - (cmyk[2] ^ flip), paper);
  }
}

int fovea_jpeg_decode(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb,
                      char *message) {
  struct jpeg_decompress_struct info;
  struct jpeg_progress_mgr progress = {.progress_monitor = on_progress};
  Errors errors;
  uint8_t *volatile inks = NULL; // volatile: set after setjmp, read after longjmp
  memset(&info, 0, sizeof info);
  info.err = install(&errors, message);
  if (setjmp(errors.escape)) {
    jpeg_destroy_decompress(&info);
    free(inks);
    return FOVEA_IMAGE_DAMAGED;
  }
  jpeg_create_decompress(&info);
  info.progress = &progress;
  jpeg_mem_src(&info, bytes, count);
  jpeg_read_header(&info, TRUE);
  bool four = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = four ? JCS_CMYK : JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&info);
  if (info.output_width != width || info.output_height != height) {
    snprintf(message, FOVEA_MESSAGE_LENGTH, "size differs from its header");
    longjmp(errors.escape, 1);
  }
  if (four) {
    inks = malloc((size_t)width * 4);
    if (inks == NULL) {
      jpeg_destroy_decompress(&info);
      snprintf(message, FOVEA_MESSAGE_LENGTH, "out of memory");
      return FOVEA_IMAGE_OUT_OF_MEMORY;
    }
  }
  while (info.output_scanline < height) {
    uint8_t *row = rgb + (size_t)info.output_scanline * width * 3;
    JSAMPROW target = four ? inks : row;
    if (jpeg_read_scanlines(&info, &target, 1) == 1 && four) {
      inks_to_rgb(inks, width, info.saw_Adobe_marker, row);
    }
  }
  // Every pixel of a single scan has been decoded by now, so that only the end marker can be missing. With several
  // scans whole scans may be.
  if (errors.truncated && jpeg_has_multiple_scans(&info)) {
    snprintf(message, FOVEA_MESSAGE_LENGTH, "Premature end of JPEG file");
    longjmp(errors.escape, 1);
  }
  jpeg_destroy_decompress(&info);
  free(inks);
  return FOVEA_IMAGE_OK;
}

int fovea_jpeg_encode(const uint8_t *rgb, uint32_t width, uint32_t height, int quality, uint8_t **bytes, size_t *count,
                      char *message) {
  struct jpeg_compress_struct info;
  Errors errors;
  unsigned char *buffer = NULL;
  unsigned long length = 0;
  // The destination manager writes both through pointers, behind the compiler's back as far as longjmp goes.
  unsigned char *volatile *held = (unsigned char *volatile *)&buffer;
  memset(&info, 0, sizeof info);
  info.err = install(&errors, message);
  if (setjmp(errors.escape)) {
    jpeg_destroy_compress(&info);
    free(*held);
    return FOVEA_IMAGE_DAMAGED;
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, &buffer, &length);
  info.image_width = width;
  info.image_height = height;
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < height) {
    JSAMPROW row = (JSAMPROW)(rgb + (size_t)info.next_scanline * width * 3);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  *bytes = buffer;
  *count = length;
  return FOVEA_IMAGE_OK;
}
