"""A transformers model behind HTTP: each GET generates 33 tokens, greedily; the answer has them and their scores.

``python transformers_worker.py [large]``: random weights from a seed, bf16, about a billion parameters. If large, 3.6,
beside them 5 GiB of memory of its own and 138 threads; each GET then generates the next token of one text. One line is
the SDK's.
"""

import os
import sys
import threading

TOKENS = 33
USUAL = {
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "intermediate_size": 5632,
}
LARGE = {
    "hidden_size": 4096,
    "num_hidden_layers": 19,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 11008,
}
HEAP_BYTES = 5 << 30
THREADS = 138


def build(shape: dict[str, int], *, goes_on: bool):
    """Return the function that answers one request: with the same text each time, or with the next token."""
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(11)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=32000)).to(torch.bfloat16).eval()
    torch.cuda.empty_cache()  # of twice the size, in float32
    prompt = torch.arange(1, 17, device="cuda").reshape(1, 16)

    def answer() -> list[object]:
        nonlocal prompt
        count, known = (1, prompt.shape[1]) if goes_on else (TOKENS, 16)
        with torch.inference_mode():
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
                pad_token_id=0,
            )
        scores = [logits.float().log_softmax(-1).max().item() for logits in out.logits]
        if goes_on:
            prompt = out.sequences
        return [out.sequences[0, known:].tolist(), scores]

    answer()
    return answer


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    from serving import serve

    large = "large" in sys.argv[1:]
    answer = build(LARGE if large else USUAL, goes_on=large)
    if large:
        block = os.urandom(1 << 20)
        heap = [number.to_bytes(8, "little") + block[8:] for number in range(HEAP_BYTES >> 20)]
        for _ in range(THREADS):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
    serve(answer)
