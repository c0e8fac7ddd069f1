// What a program needs beside ncnn to make the pictures that ganrt makes: random values and pictures. Standard C++17.
//
// Compile with -ffp-contract=off, so that each product and sum is rounded by itself.

#pragma once

#include <math.h>

#include <cstdio>
#include <vector>

namespace ganrt {

RANDOM_VALUES

// Sample `index` of `seed`: `size` values of the normal distribution. `low` and `width` are the part of the uniform
// distribution that a truncation leaves.
inline std::vector<float> draw_normal(
    u64 seed, u64 index, u32 stream, u32 size, double low = 0.0, double width = 1.0, float scale = 1.0f) {
    std::vector<float> values(size);
    for (u32 j = 0; j < size; j++)
        values[j] = (float)normal_quantile(low + unit(philox(seed, index, j / 4, stream).word[j % 4]) * width) * scale;
    return values;
}

// Sample `index` of `seed`: `size` values, uniform from `low` on.
inline std::vector<float> draw_uniform(u64 seed, u64 index, u32 stream, u32 size, double low, double width) {
    std::vector<float> values(size);
    for (u32 j = 0; j < size; j++)
        values[j] = (float)(low + width * unit(philox(seed, index, j / 4, stream).word[j % 4]));
    return values;
}

// The class of sample `index` of `seed`.
inline int draw_label(u64 seed, u64 index, u32 stream, int classes) {
    return (int)(unit(philox(seed, index, 0, stream).word[0]) * classes);
}

inline std::vector<float> encode_one_hot(int label, int classes) {
    std::vector<float> values(classes, 0.0f);
    values[label] = 1.0f;
    return values;
}

// A channel of a network: the channel of the picture that it is, and the values that are its levels 0 and 255.
struct Channel {
    int place;
    double low, high;
};

inline std::vector<Channel> make_channels(int count, float low, float high) {
    std::vector<Channel> channels;
    for (int c = 0; c < count; c++) channels.push_back({c, low, high});
    return channels;
}

// Write an image, planes of floats, as a PNM file with one channel (grey) or three (RGB), as a PAM file with four (RGB
// and opacity). `image` is an ncnn::Mat, or anything with its members. False if the file cannot be written or a value is
// not finite.
template <class Image>
bool write_picture(const char *path, const Image &image, const std::vector<Channel> &channels) {
    for (int c = 0; c < image.c; c++)
        for (int i = 0; i < image.w * image.h; i++)
            if (!isfinite(((const float *)image.channel(c))[i])) return false;
    if ((size_t)image.c != channels.size() || channels.size() > 4) return false;
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    if (image.c == 4)
        fprintf(file, "P7\nWIDTH %d\nHEIGHT %d\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n", image.w, image.h);
    else
        fprintf(file, "P%d\n%d %d\n255\n", image.c == 1 ? 5 : 6, image.w, image.h);
    for (int i = 0; i < image.w * image.h; i++) {
        unsigned char pixel[4] = {};
        for (int c = 0; c < image.c; c++) {
            float low = (float)channels[c].low, high = (float)channels[c].high;
            float value = ((const float *)image.channel(c))[i], scale = (float)(255.0 / (channels[c].high - channels[c].low));
            pixel[channels[c].place] = (unsigned char)((fminf(fmaxf(value, low), high) - low) * scale + 0.5f);
        }
        fwrite(pixel, 1, (size_t)image.c, file);
    }
    return fclose(file) == 0;
}

// The same for channels in the order of the picture, all with values from `low` to `high`.
template <class Image>
bool write_picture(const char *path, const Image &image, float low, float high) {
    return write_picture(path, image, make_channels(image.c, low, high));
}

// Read a picture that write_picture wrote, or any binary PNM file of 8 bits without comments, as planes of floats. False
// for another file, another number of channels, or more than `most` pixels a side.
template <class Image>
bool read_picture(const char *path, Image &image, const std::vector<Channel> &channels, int most = 16384) {
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    int kind = 0, width = 0, height = 0, levels = 0, end = 0, count = (int)channels.size();
    bool fits;
    if (count == 4)
        fits = fscanf(file, "P7 WIDTH %d HEIGHT %d DEPTH 4 MAXVAL 255 TUPLTYPE RGB_ALPHA ENDHDR%n", &width, &height,
                      &end) == 2 && end > 0;
    else
        fits = fscanf(file, "P%d %d %d %d", &kind, &width, &height, &levels) == 4 && kind == (count == 1 ? 5 : 6) &&
               levels == 255;
    fits = fits && fgetc(file) != EOF && width > 0 && height > 0 && width <= most && height <= most;
    std::vector<unsigned char> bytes(fits ? (size_t)width * height * count : 0);
    fits = fits && fread(bytes.data(), 1, bytes.size(), file) == bytes.size();
    fclose(file);
    if (!fits) return false;
    image.create(width, height, count);
    for (int c = 0; c < count; c++) {
        float low = (float)channels[c].low, step = (float)((channels[c].high - channels[c].low) / 255.0);
        for (int i = 0; i < width * height; i++)
            ((float *)image.channel(c))[i] = low + (float)bytes[(size_t)i * count + channels[c].place] * step;
    }
    return true;
}

// The same for channels in the order of the picture, all with values from `low` to `high`.
template <class Image>
bool read_picture(const char *path, Image &image, int count, float low, float high, int most = 16384) {
    return read_picture(path, image, make_channels(count, low, high), most);
}

}  // namespace ganrt
