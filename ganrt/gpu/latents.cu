// Kernels that draw the inputs of a batch. latents.py puts random_values.h in front of this file, and CENTRE and TAIL in
// front of that. One thread makes the four values of one Philox block.

// Finds the row of a thread and its block in the row; false beyond the last row.
__device__ bool locate(u64 rows, u32 blocks, u64 *row, u32 *block) {
    u64 thread = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    *row = thread / blocks;
    *block = (u32)(thread % blocks);
    return *row < rows;
}

// `table` has a line of `columns` values for each row of a batch: its seed, its sample number, then those that an input
// needs, from column `first` on. A chosen label below 0 is drawn.

__device__ double read_double(u64 value) {
    return __longlong_as_double((long long)value);
}

// `out` is (rows, size). p = low + u * width, then its normal quantile, times scale.
extern "C" __global__ void ganrt_normal(
    float *out, const u64 *table, u64 rows, u32 columns, u32 first, u32 stream, u32 size) {
    u64 row;
    u32 block;
    if (!locate(rows, (size + 3) / 4, &row, &block)) return;
    const u64 *line = table + row * columns;
    Words words = philox(line[0], line[1], block, stream);
    double low = read_double(line[first]), width = read_double(line[first + 1]);
    float scale = (float)read_double(line[first + 2]);
    for (u32 j = 0; j < 4 && 4 * block + j < size; j++) {
        double p = low + unit(words.word[j]) * width;
        out[row * size + 4 * block + j] = (float)normal_quantile(p) * scale;
    }
}

extern "C" __global__ void ganrt_uniform(
    float *out, const u64 *table, u64 rows, u32 columns, u32 stream, u32 size, double low, double width) {
    u64 row;
    u32 block;
    if (!locate(rows, (size + 3) / 4, &row, &block)) return;
    const u64 *line = table + row * columns;
    Words words = philox(line[0], line[1], block, stream);
    for (u32 j = 0; j < 4 && 4 * block + j < size; j++)
        out[row * size + 4 * block + j] = (float)(low + width * unit(words.word[j]));
}

__device__ u32 label(const u64 *line, u32 first, u32 stream, u32 classes) {
    long long chosen = (long long)line[first];
    return chosen < 0 ? (u32)(unit(philox(line[0], line[1], 0, stream).word[0]) * classes) : (u32)chosen;
}

extern "C" __global__ void ganrt_label_int64(
    long long *out, const u64 *table, u64 rows, u32 columns, u32 first, u32 stream, u32 classes) {
    u64 row;
    u32 block;
    if (locate(rows, 1, &row, &block)) out[row] = label(table + row * columns, first, stream, classes);
}

extern "C" __global__ void ganrt_label_int32(
    int *out, const u64 *table, u64 rows, u32 columns, u32 first, u32 stream, u32 classes) {
    u64 row;
    u32 block;
    if (locate(rows, 1, &row, &block)) out[row] = (int)label(table + row * columns, first, stream, classes);
}

extern "C" __global__ void ganrt_label_one_hot(
    float *out, const u64 *table, u64 rows, u32 columns, u32 first, u32 stream, u32 classes) {
    u64 row;
    u32 column;
    if (locate(rows, classes, &row, &column))
        out[row * classes + column] = label(table + row * columns, first, stream, classes) == column ? 1.0f : 0.0f;
}

extern "C" __global__ void ganrt_fill(float *out, const u64 *table, u64 rows, u32 columns, u32 first) {
    u64 row;
    u32 block;
    if (locate(rows, 1, &row, &block)) out[row] = (float)read_double(table[row * columns + first]);
}
