"""Runs a .tflite model over many inputs in TensorFlow Lite Micro and in LiteRT.

usage: run_tflite.py MODEL INPUTS OUTPUT_TFLM OUTPUT_LITERT

INPUTS holds the raw little-endian input tensors one after the other, in the model's own type; the
outputs are written in the same way.
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_micro import runtime


def run_tflm(model, vectors):
    interpreter = runtime.Interpreter.from_bytes(model)
    for vector in vectors:
        interpreter.set_input(vector[np.newaxis], 0)
        interpreter.invoke()
        yield interpreter.get_output(0)


def run_litert(model, vectors):
    # The reference kernels: what other kernels are allowed to differ from.
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    first = interpreter.get_input_details()[0]["index"]
    last = interpreter.get_output_details()[0]["index"]
    for vector in vectors:
        interpreter.set_tensor(first, vector[np.newaxis])
        interpreter.invoke()
        yield interpreter.get_tensor(last)


def main():
    model_path, inputs_path, tflm_path, litert_path = sys.argv[1:]
    with open(model_path, "rb") as file:
        model = file.read()
    details = Interpreter(model_content=model).get_input_details()[0]
    shape = details["shape"][1:]
    vectors = np.fromfile(inputs_path, details["dtype"]).reshape(-1, *shape)
    for path, run in ((tflm_path, run_tflm), (litert_path, run_litert)):
        np.concatenate([np.array(output) for output in run(model, vectors)]).tofile(path)


if __name__ == "__main__":
    main()
