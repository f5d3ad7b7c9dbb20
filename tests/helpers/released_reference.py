"""The released code's context block as NumPy float64 loops, written from the facts about it.

Parameters are plain dicts: a convolution is `{"kernel": [3, 3, in, out]}` with an optional
`"bias"`, a normalised one adds `"scale"`, `"shift"`, `"mean"` and `"var"`. One image at a time.
"""

import math

import numpy as np


def entropy(p):
    """Binary entropy in nats."""
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def divergence(probabilities):
    """E_ij: binary Jensen-Shannon divergence at pixel i's best class, both clipped."""
    count = len(probabilities)
    table = np.zeros((count, count))
    for i in range(count):
        best = int(np.argmax(probabilities[i]))
        p = min(max(probabilities[i, best], 0.001), 0.99)
        for j in range(count):
            q = min(max(probabilities[j, best], 0.001), 0.99)
            table[i, j] = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return table


def crossing(boundary):
    """D_ij: the largest boundary score strictly between two pixels."""
    height, width = boundary.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    table = np.zeros((len(pixels), len(pixels)))
    for i, (y, x) in enumerate(pixels):
        for j, (v, u) in enumerate(pixels):
            steps = max(abs(v - y), abs(u - x))
            for t in range(1, steps):
                row, column = y + t * (v - y) / steps, x + t * (u - x) / steps
                top, left = math.floor(row), math.floor(column)
                bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
                a, b = row - top, column - left
                sample = (
                    (1 - a) * (1 - b) * boundary[top, left]
                    + (1 - a) * b * boundary[top, right]
                    + a * (1 - b) * boundary[bottom, left]
                    + a * b * boundary[bottom, right]
                )
                table[i, j] = max(table[i, j], sample)
    return table


def partition(attention, threshold):
    """Each pixel follows the smallest index it is joined with, down to the root."""
    count = len(attention)
    labels = np.zeros(count, int)
    for j in range(count):
        joined = [i for i in range(j) if (attention[i, j] + attention[j, i]) / 2 > threshold]
        labels[j] = labels[joined[0]] if joined else j
    return labels


def scores(attention, labels):
    """The sums of F_ij over the region of i, and the same divided by the count of positive ones."""
    count = len(labels)
    total, mean = np.zeros(count), np.zeros(count)
    for i in range(count):
        total[i] = sum(attention[i, j] for j in range(count) if labels[j] == labels[i])
    for i in range(count):
        positive = sum(1 for j in range(count) if labels[j] == labels[i] and total[j] > 0)
        mean[i] = total[i] / max(positive, 1)
    return total, mean


def representatives(total, labels, per_region):
    """Sorted union of the best columns of each row of the [regions, n] table."""
    chosen = set()
    for root in sorted(set(labels.tolist())):
        row = [total[i] if labels[i] == root else 0.0 for i in range(len(labels))]
        chosen.update(sorted(range(len(row)), key=lambda i: (-row[i], i))[:per_region])
    return np.array(sorted(chosen))


def softmax(logits):
    """Softmax over the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def convolve(image, parameters):
    """3x3 convolution of [h, w, m], zero padded by one."""
    kernel = parameters["kernel"]
    height, width, _ = image.shape
    output = np.zeros((height, width, kernel.shape[-1]))
    for y in range(height):
        for x in range(width):
            for dy in range(3):
                for dx in range(3):
                    v, u = y + dy - 1, x + dx - 1
                    if 0 <= v < height and 0 <= u < width:
                        output[y, x] += image[v, u] @ kernel[dy, dx]
    return output + parameters.get("bias", 0.0)


def normalise(image, parameters):
    """Batch normalisation by the running statistics."""
    centred = (image - parameters["mean"]) / np.sqrt(parameters["var"] + 1e-5)
    return centred * parameters["scale"] + parameters["shift"]


def conv_norm_leaky(image, parameters):
    """3x3 convolution, normalisation, LeakyReLU of slope 0.01."""
    image = normalise(convolve(image, parameters), parameters)
    return np.where(image > 0, image, 0.01 * image)


def pointwise(image, parameters):
    """1x1 convolution with a bias; the kernel is [in, out]."""
    return image @ parameters["kernel"] + parameters["bias"]


def region_map(boundary, probabilities, threshold):
    """Labels, sums and representative scores of an image's pixels."""
    attention = (1 - crossing(boundary)) * (1 - divergence(probabilities))
    labels = partition(attention, threshold)
    return labels, *scores(attention, labels)


def block(layer3, layer4, parameters, threshold=0.8, per_region=8):
    """The whole block in evaluation: a dict of every quantity worth comparing."""
    height, width, _ = layer4.shape
    stem = normalise(convolve(layer3, parameters["dsn"]), parameters["dsn"])
    coarse = pointwise(stem, parameters["dsn_semantic_logit"])
    edge = pointwise(stem, parameters["dsn_boundary_logit"])
    probabilities = softmax(coarse).reshape(height * width, -1)
    labels, total, score = region_map(softmax(edge)[..., 1], probabilities, threshold)
    indices = representatives(total, labels, per_region)

    feats = conv_norm_leaky(layer4, parameters["feats_conv"])
    query = conv_norm_leaky(feats, parameters["query_conv"]).reshape(height * width, -1)
    value = conv_norm_leaky(feats, parameters["value_conv"]).reshape(height * width, -1)
    scaled = value * score[:, None]
    picked, weight = value[indices], score[indices][:, None]

    mixed = picked + softmax(picked @ scaled.T) @ value
    collected = conv_norm_leaky(mixed[:, None, :], parameters["collect_conv"])[:, 0]
    mixed_two = collected + softmax(collected @ (collected * weight).T) @ collected
    interacted = conv_norm_leaky(mixed_two[:, None, :], parameters["interact_conv"])[:, 0]
    mixed_three = query + softmax(query @ (interacted * weight).T) @ interacted
    context = conv_norm_leaky(mixed_three.reshape(height, width, -1), parameters["distribute_conv"])
    features = conv_norm_leaky(np.concatenate([feats, context], axis=-1), parameters["final_conv"])
    return {
        "coarse": coarse,
        "boundary": edge,
        "labels": labels,
        "score": score,
        "indices": indices,
        "before_collect_conv": convolve(mixed[:, None, :], parameters["collect_conv"])[:, 0],
        "features": features,
    }
