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

// One column of an input tile, through the prologue, of which rows `top` to before `bottom` lie inside the image, zero
// elsewhere: Bt times it.
INLINE void transform_column(float16 result[4], global const stored *column, long rowStride, int top, int bottom,
                             float16 centre, float16 scale, float16 shift, float preSlope, float postSlope) {
  float16 d[4];
  if (top == 0 && bottom == 4) {
#pragma unroll
    for (int i = 0; i < 4; i++)
      d[i] = APPLY_PROLOGUE(LOAD_AS(STORE, 16, column + i * rowStride), centre, scale, shift, preSlope, postSlope);
  } else {
    float edge[64] LINES;
    for (int i = 0; i < 4; i++) {
      float16 value = 0.0f;
      if (i >= top && i < bottom)
        value = APPLY_PROLOGUE(LOAD_AS(STORE, 16, column + i * rowStride), centre, scale, shift, preSlope, postSlope);
      store16(value, i, edge);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
      d[i] = vload16(i, edge);
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
      const int ih = tile.row * 2 - padTop;
      const int iw = tile.column * 2 - padLeft;
      const int top = max(-ih, 0);
      const int bottom = min(height - ih, 4);
      const long rowStride = (long)width * xStride;
      global const stored *corner = x + (tile.image * height + ih) * rowStride + (long)iw * xStride + c;
      // Of columns outside of the image no row is inside.
#define TRANSFORM_COLUMN(j)                                                                                            \
  transform_column(column[j], corner + xStride * (long)(j), rowStride, top,                                            \
                   iw + (j) >= 0 && iw + (j) < width ? bottom : 0, centre, scale, shift, preSlope, postSlope)
      if (t == 0 || tile.column == 0) {
        TRANSFORM_COLUMN(0);
        TRANSFORM_COLUMN(1);
      }
      TRANSFORM_COLUMN(2);
      TRANSFORM_COLUMN(3);
      float *v = target + t * TILE_STRIDE + c;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        store16(column[0][i] - column[2][i], 0, v + (i * 4 + 0) * INPUT_STRIDE);
        store16(column[1][i] + column[2][i], 0, v + (i * 4 + 1) * INPUT_STRIDE);
        store16(column[2][i] - column[1][i], 0, v + (i * 4 + 2) * INPUT_STRIDE);
        store16(column[1][i] - column[3][i], 0, v + (i * 4 + 3) * INPUT_STRIDE);
        column[0][i] = column[2][i];
        column[1][i] = column[3][i];
      }
    }
  }
}

// A walk like those of window.cl over the 2x2 pixels that tiles have at (row, column) of theirs.
typedef struct {
  global const stored *x;
  int stride, height, width, row, column, tilesDown, tilesAcross, channels;
  Tile tile;
  int pixel, channel;
  int lines, shares, owed;
} TileWalk;

INLINE TileWalk begin_tile_walk(global const stored *x, int stride, int height, int width, int row, int column,
                                int tilesDown, int tilesAcross, int first, int count, int channels, int shares) {
  TileWalk walk;
  walk.x = x;
  walk.stride = stride;
  walk.height = height;
  walk.width = width;
  walk.row = row;
  walk.column = column;
  walk.tilesDown = tilesDown;
  walk.tilesAcross = tilesAcross;
  walk.channels = channels;
  walk.tile = tile_at(first, tilesDown, tilesAcross);
  walk.pixel = walk.channel = walk.owed = 0;
  walk.lines = count * 4 * ((channels + LINE - 1) / LINE);
  walk.shares = shares;
  return walk;
}

INLINE void walk_tiles(TileWalk *walk) {
  for (walk->owed += walk->lines; walk->owed >= walk->shares; walk->owed -= walk->shares) {
    const int ih = walk->tile.row * 2 + walk->row + walk->pixel / 2;
    const int iw = walk->tile.column * 2 + walk->column + walk->pixel % 2;
    if (ih < walk->height && iw < walk->width)
      PREFETCH(walk->x + ((walk->tile.image * walk->height + ih) * walk->width + iw) * walk->stride + walk->channel);
    walk->channel += LINE;
    if (walk->channel >= walk->channels) {
      walk->channel = 0;
      if (++walk->pixel == 4) {
        walk->pixel = 0;
        walk->tile = next_tile(walk->tile, walk->tilesDown, walk->tilesAcross);
      }
    }
  }
}
