"""A PyTorch worker with the weights of `/data/model.safetensors`, as engines have them: some joined, some changed.

Each GET is one step; the answer has the sum of all weights, and a number that depends on all steps before it.
"""

import json
import os


def main() -> None:
    """Serve on port 8000."""
    import torch  # noqa: PLC0415 - takes seconds
    from serving import serve  # noqa: PLC0415 - only in a container

    path = "/data/model.safetensors"
    with open(path, "rb") as file:  # noqa: PTH123 - a script of its own
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    whole = torch.from_file(path, size=os.stat(path).st_size, dtype=torch.uint8)  # noqa: PTH116
    tensors = {
        name: whole[8 + length + place["data_offsets"][0] : 8 + length + place["data_offsets"][1]].to("cuda")
        for name, place in header.items()
    }
    joined = [name for name in tensors if name.startswith("joined")]
    weights = [torch.cat([tensors.pop(name) for name in joined])]
    weights += [torch.bitwise_not(tensor) if name.startswith("changed") else tensor for name, tensor in tensors.items()]
    del tensors, whole
    torch.cuda.empty_cache()
    state = torch.ones(1024, device="cuda")

    def step():
        state.mul_(1.5).sub_(0.25)
        return [state.sum().item(), *(tensor.view(torch.int32).sum(dtype=torch.int64).item() for tensor in weights)]

    step()
    serve(step)


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")  # torch asks for a name, and the container's user may have none
    main()
