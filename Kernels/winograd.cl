// Shared by the kernels for 3x3 convolution of stride 1 on CPUs by Winograd's minimal filtering F(2x2, 3x3): 16
// products for 4 outputs instead of 36. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
// 2015.
//
// The output is cut into tiles of 2x2 pixels, numbered along rows, columns and images; an input tile has 4x4 pixels.
// With d an input tile, g a filter, y and dy an output tile and its gradient, and all of them seen per channel:
//
//   forward           y  = At [sum over inputs of (G g Gt) * (Bt d B)] A
//   filter gradient   dg = Gt [sum over tiles of (Bt d B) * (A dy At)] G
//
//   Bt = 1  0 -1  0     G = 1    0    0     At = 1  1  1  0
//        0  1  1  0         1/2  1/2  1/2        0  1 -1 -1
//        0 -1  1  0         1/2 -1/2  1/2
//        0  1  0 -1         0    0    1
//
// The products are 16 matrix products, one for each position in the transformed tile. The data gradient is the forward
// pass over dy with the filter mirrored. Channels and outputs are multiples of 16. A pixel that is NaN or infinite
// makes all four outputs of its tile NaN, also the ones whose window it is not in.
//
// Baked: NV (vectors of outputs in registers: outputs are a multiple of 16 * NV), CHANNELS (most of the transformed
// input), TILES (of a work-item), PRE/AFFINE/POST (prologue on load).

#define NB (16 * NV)
// Distances in floats between tiles and between positions: odd numbers of cache lines, so that what is used together
// does not compete for the same few lines of the first-level cache.
#define ODD_LINES(floats) (((floats) / 16 | 1) * 16)
#define TILE_STRIDE ODD_LINES(CHANNELS)
#define INPUT_STRIDE ODD_LINES(TILES *TILE_STRIDE)
#define OUTPUT_STRIDE ODD_LINES(TILES *NB)

// Where a tile lies.
typedef struct {
  int row, column; // in tiles
  long image;
} Tile;

inline Tile tile_at(int index, int tilesDown, int tilesAcross) {
  Tile tile;
  tile.column = index % tilesAcross;
  tile.row = index / tilesAcross % tilesDown;
  tile.image = index / tilesAcross / tilesDown;
  return tile;
}

inline Tile next_tile(Tile tile, int tilesDown, int tilesAcross) {
  if (++tile.column == tilesAcross) {
    tile.column = 0;
    if (++tile.row == tilesDown) {
      tile.row = 0;
      tile.image++;
    }
  }
  return tile;
}

// One column of an input tile from row `ih` on, through the prologue, zero outside the image: Bt times it.
inline void transform_column(float16 result[4], global const stored *image, int stride, int height, int width, int ih,
                             int iw, float16 centre, float16 scale, float16 shift, float preSlope, float postSlope) {
  float16 d[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    d[i] = 0.0f;
    if (ih + i >= 0 && ih + i < height && iw >= 0 && iw < width)
      d[i] = APPLY_PROLOGUE(LOAD_AS(STORE, 16, image + ((long)(ih + i) * width + iw) * stride), centre, scale, shift,
                            preSlope, postSlope);
  }
  result[0] = d[0] - d[2];
  result[1] = d[1] + d[2];
  result[2] = d[2] - d[1];
  result[3] = d[1] - d[3];
}

// Bt d B of `count` tiles from `first` on, to [position][tile][channel]. Neighbouring tiles share two columns.
inline void transform_input(float *target, global const stored *x, int xStride, int height, int width, int channels,
                            global const float *affine, int affineStride, float preSlope, float postSlope, int padTop,
                            int padLeft, int tilesDown, int tilesAcross, int first, int count) {
  for (int c = 0; c < channels; c += 16) {
    DECLARE_PROLOGUE(affine, affineStride, c);
    Tile tile = tile_at(first, tilesDown, tilesAcross);
    float16 column[4][4];
    for (int t = 0; t < count; t++, tile = next_tile(tile, tilesDown, tilesAcross)) {
      global const stored *image = x + tile.image * height * width * xStride + c;
      const int ih = tile.row * 2 - padTop;
      const int iw = tile.column * 2 - padLeft;
      if (t == 0 || tile.column == 0) {
        transform_column(column[0], image, xStride, height, width, ih, iw, centre, scale, shift, preSlope, postSlope);
        transform_column(column[1], image, xStride, height, width, ih, iw + 1, centre, scale, shift, preSlope,
                         postSlope);
      }
      transform_column(column[2], image, xStride, height, width, ih, iw + 2, centre, scale, shift, preSlope, postSlope);
      transform_column(column[3], image, xStride, height, width, ih, iw + 3, centre, scale, shift, preSlope, postSlope);
      float *v = target + t * TILE_STRIDE + c;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        vstore16(column[0][i] - column[2][i], 0, v + (i * 4 + 0) * INPUT_STRIDE);
        vstore16(column[1][i] + column[2][i], 0, v + (i * 4 + 1) * INPUT_STRIDE);
        vstore16(column[2][i] - column[1][i], 0, v + (i * 4 + 2) * INPUT_STRIDE);
        vstore16(column[1][i] - column[3][i], 0, v + (i * 4 + 3) * INPUT_STRIDE);
        column[0][i] = column[2][i];
        column[1][i] = column[3][i];
      }
    }
  }
}

// A share of the pixels of `count` tiles from `first` on that their left neighbours do not have, in small pieces.
inline void prefetch_tiles(global const stored *x, int xStride, int height, int width, int channels, int padTop,
                           int padLeft, int tilesDown, int tilesAcross, int first, int count, int share, int shares) {
  const int end = SHARE_BEGIN(count * 4, share + 1, shares);
  for (int i = SHARE_BEGIN(count * 4, share, shares); i < end; i++) {
    const Tile tile = tile_at(first + i / 4, tilesDown, tilesAcross);
    const int ih = tile.row * 2 - padTop + i % 4;
    const int iw = tile.column * 2 - padLeft + 2;
    if (ih >= 0 && ih < height && iw >= 0 && iw + 1 < width)
      for (int c = 0; c < 2 * channels; c += LINE)
        PREFETCH(x + ((tile.image * height + ih) * width + iw + (c >= channels)) * xStride + c % channels);
  }
}

// A share of the output pixels of `count` tiles from `first` on, in small pieces.
inline void prefetch_output(global const stored *y, int yStride, int outHeight, int outWidth, int channels,
                            int tilesDown, int tilesAcross, int first, int count, int share, int shares) {
  const int end = SHARE_BEGIN(count * 2, share + 1, shares);
  for (int i = SHARE_BEGIN(count * 2, share, shares); i < end; i++) {
    const Tile tile = tile_at(first + i / 2, tilesDown, tilesAcross);
    const int oh = tile.row * 2 + i % 2;
    const int ow = tile.column * 2;
    if (oh < outHeight)
      for (int j = 0; j < 2; j++)
        for (int c = 0; c < channels; c += LINE)
          PREFETCH(y + ((tile.image * outHeight + oh) * outWidth + min(ow + j, outWidth - 1)) * yStride + c);
  }
}
