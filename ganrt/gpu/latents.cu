// The random values of ganrt/latents.py on the device: the same words and the same float32 values.
//
// Each product and sum is rounded by itself, as in NumPy (compile without fused multiply-add). log may differ from the
// host's in the last bit of float64, which rounding to float32 removes. latents.py puts CENTRE and TAIL, the coefficients
// of AS 241, in front of this file. One thread makes the four values of one Philox block.

typedef unsigned int u32;
typedef unsigned long long u64;

struct Words {
    u32 word[4];
};

// Philox4x32-10, Salmon et al., SC 2011, section 3.3.
__device__ Words philox(u64 seed, u64 index, u32 block, u32 stream) {
    u32 c0 = block, c1 = (u32)index, c2 = (u32)(index >> 32), c3 = stream;
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (u32)p1;
        c3 = (u32)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

__device__ double unit(u32 word) {
    return ((double)word + 0.5) * (1.0 / 4294967296.0);
}

__device__ double polynomial(const double *coefficients, double r) {
    double value = r * coefficients[0];
    for (int i = 1; i < 7; i++) {
        value += coefficients[i];
        value *= r;
    }
    return value + coefficients[7];
}

__device__ double normal_quantile(double p) {
    double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * (polynomial(CENTRE[0], r) / polynomial(CENTRE[1], r));
    }
    double r = sqrt(-log(fmin(p, 1.0 - p))) - 1.6;
    return copysign(polynomial(TAIL[0], r) / polynomial(TAIL[1], r), q);
}

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
