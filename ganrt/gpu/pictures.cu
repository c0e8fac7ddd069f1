// ganrt.images.to_uint8 on the device: float (N, C, H, W) in the model's range -> uint8 (N, H, W, C), clamped and rounded
// to nearest, halves up. Each product and sum is rounded by itself. `finiteness` (N) is 0 before, and NaN afterwards
// where a value of the image is not finite, which uint8 cannot express. One thread makes `count` channels of one pixel: the
// channels of the image from `first` on become those of the picture from `place` on.

extern "C" __global__ void ganrt_pictures(
    const float *image, unsigned char *pictures, float *finiteness, unsigned long long pixels, unsigned int plane,
    unsigned int channels, unsigned int first, unsigned int place, unsigned int count, float low, float high, float scale) {
    unsigned long long pixel = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    unsigned long long row = pixel / plane, point = pixel % plane;
    for (unsigned int c = 0; c < count; c++) {
        float value = image[(row * channels + first + c) * plane + point];
        if (!(value - value == 0.0f)) finiteness[row] = value - value;
        float scaled = (fminf(fmaxf(value, low), high) - low) * scale;
        pictures[pixel * channels + place + c] = (unsigned char)(scaled + 0.5f);
    }
}
