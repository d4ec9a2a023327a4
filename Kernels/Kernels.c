#include "Kernels.h"

#include <stddef.h>
#include <string.h>

// clang-format off
static const char builtins[] = {
#embed "builtins.cl"
, 0};
static const char common[] = {
#embed "common.cl"
, 0};
static const char convolution_filters[] = {
#embed "convolution_filters.cl"
, 0};
static const char convolution_gather[] = {
#embed "convolution_gather.cl"
, 0};
static const char convolution_narrow[] = {
#embed "convolution_narrow.cl"
, 0};
static const char convolution_phases[] = {
#embed "convolution_phases.cl"
, 0};
static const char convolution_tiled[] = {
#embed "convolution_tiled.cl"
, 0};
static const char convolution_tiled_patch[] = {
#embed "convolution_tiled_patch.cl"
, 0};
static const char convolution_tiled_patch_filter_gradient[] = {
#embed "convolution_tiled_patch_filter_gradient.cl"
, 0};
static const char convolution_vector[] = {
#embed "convolution_vector.cl"
, 0};
static const char convolution_vector_filter_gradient[] = {
#embed "convolution_vector_filter_gradient.cl"
, 0};
static const char convolution_winograd[] = {
#embed "convolution_winograd.cl"
, 0};
static const char convolution_winograd_filter_gradient[] = {
#embed "convolution_winograd_filter_gradient.cl"
, 0};
static const char elementwise[] = {
#embed "elementwise.cl"
, 0};
static const char matrix[] = {
#embed "matrix.cl"
, 0};
static const char matrix_probe[] = {
#embed "matrix_probe.cl"
, 0};
static const char normalization[] = {
#embed "normalization.cl"
, 0};
static const char optimizer[] = {
#embed "optimizer.cl"
, 0};
static const char peak[] = {
#embed "peak.cl"
, 0};
static const char pooling[] = {
#embed "pooling.cl"
, 0};
static const char reduction[] = {
#embed "reduction.cl"
, 0};
static const char resize[] = {
#embed "resize.cl"
, 0};
static const char softmax[] = {
#embed "softmax.cl"
, 0};
static const char tiles[] = {
#embed "tiles.cl"
, 0};
static const char tiles_result[] = {
#embed "tiles_result.cl"
, 0};
static const char window[] = {
#embed "window.cl"
, 0};
static const char winograd[] = {
#embed "winograd.cl"
, 0};
// clang-format on

static const struct {
  const char *name;
  const char *text;
} sources[] = {
    {"builtins", builtins},
    {"common", common},
    {"convolution_filters", convolution_filters},
    {"convolution_gather", convolution_gather},
    {"convolution_narrow", convolution_narrow},
    {"convolution_phases", convolution_phases},
    {"convolution_tiled", convolution_tiled},
    {"convolution_tiled_patch", convolution_tiled_patch},
    {"convolution_tiled_patch_filter_gradient", convolution_tiled_patch_filter_gradient},
    {"convolution_vector", convolution_vector},
    {"convolution_vector_filter_gradient", convolution_vector_filter_gradient},
    {"convolution_winograd", convolution_winograd},
    {"convolution_winograd_filter_gradient", convolution_winograd_filter_gradient},
    {"elementwise", elementwise},
    {"matrix", matrix},
    {"matrix_probe", matrix_probe},
    {"normalization", normalization},
    {"optimizer", optimizer},
    {"peak", peak},
    {"pooling", pooling},
    {"reduction", reduction},
    {"resize", resize},
    {"softmax", softmax},
    {"tiles", tiles},
    {"tiles_result", tiles_result},
    {"window", window},
    {"winograd", winograd},
};

const char *fovea_kernel_source(const char *name) {
  for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
    if (strcmp(sources[i].name, name) == 0)
      return sources[i].text;
  return NULL;
}
