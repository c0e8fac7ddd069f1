// What ganrt.images.to_uint8 does, on the device: float (N, C, H, W) in the model's range -> uint8 (N, H, W, C), clamped
// and rounded to nearest, halves up; every product and sum rounded by itself. `level` of a row becomes NaN where a value
// of its image is not finite (uint8 has no word for that); it is 0 before. One thread makes one pixel.

extern "C" __global__ void ganrt_pictures(
    const float *image, unsigned char *pictures, float *level, unsigned long long pixels, unsigned int plane,
    unsigned int channels, float low, float high, float scale) {
    unsigned long long pixel = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    unsigned long long row = pixel / plane, place = pixel % plane;
    for (unsigned int c = 0; c < channels; c++) {
        float value = image[(row * channels + c) * plane + place];
        if (!(value - value == 0.0f)) level[row] = value - value;
        float scaled = (fminf(fmaxf(value, low), high) - low) * scale;
        pictures[pixel * channels + c] = (unsigned char)(scaled + 0.5f);
    }
}
