#include "CImageCodecs.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

static int damaged(VP8StatusCode status, char *message) {
  const char *text = "invalid data";
  switch (status) {
  case VP8_STATUS_OUT_OF_MEMORY:
    snprintf(message, FOVEA_MESSAGE_LENGTH, "out of memory");
    return FOVEA_IMAGE_OUT_OF_MEMORY;
  case VP8_STATUS_NOT_ENOUGH_DATA:
    text = "file is truncated";
    break;
  case VP8_STATUS_UNSUPPORTED_FEATURE:
    text = "unsupported feature";
    break;
  default:
    break;
  }
  snprintf(message, FOVEA_MESSAGE_LENGTH, "%s", text);
  return FOVEA_IMAGE_DAMAGED;
}

int fovea_webp_size(const uint8_t *bytes, size_t count, uint32_t *width, uint32_t *height, char *message) {
  WebPBitstreamFeatures features;
  message[0] = 0;
  VP8StatusCode status = WebPGetFeatures(bytes, count, &features);
  if (status != VP8_STATUS_OK)
    return damaged(status, message);
  *width = (uint32_t)features.width;
  *height = (uint32_t)features.height;
  return FOVEA_IMAGE_OK;
}

static int decode_first_frame(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb,
                              char *message) {
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  WebPData data = {bytes, count};
  WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, &options);
  if (decoder == NULL)
    return damaged(VP8_STATUS_BITSTREAM_ERROR, message);
  WebPAnimInfo info;
  uint8_t *rgba = NULL;
  int timestamp;
  bool read = WebPAnimDecoderGetInfo(decoder, &info) && info.canvas_width == width && info.canvas_height == height &&
              WebPAnimDecoderGetNext(decoder, &rgba, &timestamp);
  if (read) {
    size_t pixels = (size_t)width * height;
    for (size_t i = 0; i < pixels; i++)
      memcpy(rgb + 3 * i, rgba + 4 * i, 3);
  }
  WebPAnimDecoderDelete(decoder);
  return read ? FOVEA_IMAGE_OK : damaged(VP8_STATUS_BITSTREAM_ERROR, message);
}

int fovea_webp_decode(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, uint8_t *rgb,
                      char *message) {
  WebPDecoderConfig config;
  message[0] = 0;
  if (!WebPInitDecoderConfig(&config))
    return damaged(VP8_STATUS_INVALID_PARAM, message);
  VP8StatusCode status = WebPGetFeatures(bytes, count, &config.input);
  if (status != VP8_STATUS_OK)
    return damaged(status, message);
  if (config.input.has_animation)
    return decode_first_frame(bytes, count, width, height, rgb, message);
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = rgb;
  config.output.u.RGBA.stride = (int)(width * 3);
  config.output.u.RGBA.size = (size_t)width * height * 3;
  status = WebPDecode(bytes, count, &config);
  WebPFreeDecBuffer(&config.output);
  return status == VP8_STATUS_OK ? FOVEA_IMAGE_OK : damaged(status, message);
}
