extern const char fovea_x[];
