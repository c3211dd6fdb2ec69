"""What pyproject.toml cannot say: folders imported under another name, and the optional C library."""

from glob import glob

from setuptools import Extension, find_packages, setup

# These folders stand at the top of the tree but are installed below mrs: top-level names must not be taken
# (PyPI has a package named `kernels`). setuptools finds deeper packages by the longest mapped prefix.
LAYERS = ["kernels", "runtime", "export"]

# The links mrs/kernels, mrs/runtime and mrs/export would list every package a second time.
packages = ["mrs", *(f"mrs.{name}" for name in find_packages("mrs", exclude=[f"{layer}*" for layer in LAYERS]))]
for layer in LAYERS:
    packages += [f"mrs.{layer}", *(f"mrs.{layer}.{name}" for name in find_packages(layer))]

setup(
    packages=packages,
    package_dir={"mrs": "mrs", **{f"mrs.{layer}": layer for layer in LAYERS}},
    package_data={
        "mrs": ["py.typed", "weights/*.safetensors", "weights/*.md"],
        "mrs.building": ["pictures/*.png", "pictures/*.jpg"],
        "mrs.kernels": ["*.c"],
        "mrs.reporting": ["assets/*", "templates/*"],
    },
    ext_modules=[
        # A plain shared library that ctypes loads; built as an extension so that pip puts it in its place.
        # Optional: without a compiler the install succeeds, and the NumPy references do the work.
        Extension(
            "mrs.kernels._cpu",
            ["kernels/_cpu.c"],
            depends=glob("kernels/*.[ch]"),
            # No contraction into fused multiply-adds: results must equal the references on every CPU.
            extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
            libraries=["m"],
            optional=True,
        )
    ],
)
