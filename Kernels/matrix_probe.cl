// Whether matrix units multiply as matrix.cl takes it that they do: c = a * b by two warps of a work-group, each with
// matrices of its own. a is [2][terms][32], b [2][terms][16], c [2][32][16], with 8 * PACK terms.

#define LDA 10
#define LDB 6

kernel __attribute__((reqd_work_group_size(2 * LANES, 1, 1))) void
matrix_probe(global const float *a, global const float *b, global float *c) {
  local float4 tiles[2 * MATRIX_WORDS * (LDA + LDB)];
  const int lane = get_local_id(0) % LANES;
  const int warp = get_local_id(0) / LANES;
  local float4 *const rows = tiles + warp * MATRIX_WORDS * (LDA + LDB);
  local float4 *const columns = rows + MATRIX_WORDS * LDA;
  a += warp * MATRIX_WORDS * PACK * 32;
  b += warp * MATRIX_WORDS * PACK * 16;
  c += warp * 32 * 16;
  for (int i = lane; i < MATRIX_WORDS * 8; i += LANES) {
    global const float *values = a + i / 8 * PACK * 32 + i % 8 * 4;
    rows[i / 8 * LDA + i % 8] = operand_words(vload4(0, values), vload4(0, values + (PACK - 1) * 32));
  }
  for (int i = lane; i < MATRIX_WORDS * 4; i += LANES) {
    global const float *values = b + i / 4 * PACK * 16 + i % 4 * 4;
    columns[i / 4 * LDB + i % 4] = operand_words(vload4(0, values), vload4(0, values + (PACK - 1) * 16));
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  float4 r[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  local const uint4 *const as = (local const uint4 *)rows;
  local const uint2 *const bs = (local const uint2 *)columns;
  multiply_fragments(as, LDA, row_fragment(as, LDA, lane), bs, LDB, column_fragment(bs, LDB, lane), lane, &r[0], &r[1],
                     &r[2], &r[3]);
  for (int i = 0; i < 4; i++)
    vstore4(r[i], 0, c + (lane / 4 * 4 + i) * 16 + lane % 4 * 4);
}
