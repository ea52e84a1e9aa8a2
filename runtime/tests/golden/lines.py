#!/usr/bin/env python3
"""Golden values of scaled images, made with OpenCV's `cv2.resize`.

  python lines.py

Prints the table of `runtime/src/features/bilinear.rs`. The image has pixel `(37 y^2 + 101 x y + 13 x) mod 256`.
"""
import cv2
import numpy as np

for width, height, columns, rows in [(7, 5, 11, 8), (23, 17, 9, 6), (1, 1, 4, 4), (16, 8, 8, 4), (5, 31, 3, 4)]:
    y, x = np.mgrid[0:height, 0:width]
    image = ((37 * y * y + 101 * x * y + 13 * x) % 256).astype(np.uint8)
    scaled = cv2.resize(image, (columns, rows)).reshape(-1)
    values = ", ".join(f"{v}.0" for v in scaled)
    print(f"        ({width}, {height}, {columns}, {rows}, &[{values}]),")
