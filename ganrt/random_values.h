// The random values of ganrt/latents.py in C: the same words and the same float32 values.
//
// Each product and sum is rounded by itself, as in NumPy (compile without fused multiply-add). log may differ from the
// host's in the last bit of float64, which rounding to float32 removes. The program that uses this file defines
// GANRT_FUNCTION, which precedes each function, and CENTRE and TAIL, the coefficients of AS 241.

typedef unsigned int u32;
typedef unsigned long long u64;

struct Words {
    u32 word[4];
};

// Philox4x32-10, Salmon et al., SC 2011, section 3.3.
GANRT_FUNCTION Words philox(u64 seed, u64 index, u32 block, u32 stream) {
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

GANRT_FUNCTION double unit(u32 word) {
    return ((double)word + 0.5) * (1.0 / 4294967296.0);
}

GANRT_FUNCTION double polynomial(const double *coefficients, double r) {
    double value = r * coefficients[0];
    for (int i = 1; i < 7; i++) {
        value += coefficients[i];
        value *= r;
    }
    return value + coefficients[7];
}

GANRT_FUNCTION double normal_quantile(double p) {
    double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * (polynomial(CENTRE[0], r) / polynomial(CENTRE[1], r));
    }
    double r = sqrt(-log(fmin(p, 1.0 - p))) - 1.6;
    return copysign(polynomial(TAIL[0], r) / polynomial(TAIL[1], r), q);
}
