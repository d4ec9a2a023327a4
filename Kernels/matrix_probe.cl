// Whether matrix units multiply as matrix.cl takes it that they do: c = a * b by two warps of a work-group, each with
// matrices of its own. a is [2][terms][32], b [2][terms][16], c [2][32][16], with 8 * PACK terms.

#define SIZE_A MATRIX_TILE_SIZE(32, MATRIX_WORDS)
#define SIZE_B MATRIX_TILE_SIZE(16, MATRIX_WORDS)

// Word `word` of the four rows or columns from `values` on, of which a term has `extent`.
INLINE uint4 word_at(global const float *values, int extent, int word) {
  values += word * PACK * extent;
  return operand_words(vload4(0, values), vload4(0, values + (PACK - 1) * extent));
}

kernel __attribute__((reqd_work_group_size(2 * LANES, 1, 1))) void
matrix_probe(global const float *a, global const float *b, global float *c) {
  local float4 tiles[2 * (SIZE_A + SIZE_B)];
  const int lane = get_local_id(0) % LANES;
  const int warp = get_local_id(0) / LANES;
  local float4 *const rows = tiles + warp * (SIZE_A + SIZE_B);
  local float4 *const columns = rows + SIZE_A;
  a += warp * MATRIX_WORDS * PACK * 32;
  b += warp * MATRIX_WORDS * PACK * 16;
  c += warp * 32 * 16;
  for (int i = lane; i < MATRIX_WORDS / 2 * 8; i += LANES) {
    global const float *values = a + i % 8 * 4;
    const int word = i / 8 * 2;
    store_four_rows(word_at(values, 32, word), word_at(values, 32, word + 1), rows, 32, word * PACK, i % 8);
  }
  for (int i = lane; i < MATRIX_WORDS / 2 * 4; i += LANES) {
    global const float *values = b + i % 4 * 4;
    const int word = i / 4 * 2;
    store_four_columns(word_at(values, 16, word), word_at(values, 16, word + 1), columns, 16, word * PACK, i % 4);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  float4 r[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  local const uint4 *const as = (local const uint4 *)rows;
  local const uint4 *const bs = (local const uint4 *)columns;
  multiply_fragments(row_source(as, 32, lane), bs, 16, column_fragment(bs, 16, lane), lane, &r[0], &r[1], &r[2], &r[3]);
  for (int i = 0; i < 4; i++)
    vstore4(r[i], 0, c + (lane / 4 * 4 + i) * 16 + lane % 4 * 4);
}
