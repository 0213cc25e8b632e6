"""A transformers model behind HTTP: each GET generates 33 tokens, greedily; the answer has them and their scores.

``python transformers_worker.py``: random weights from a seed, bf16, about a billion parameters. One line is the SDK's.
"""

import os

TOKENS = 33


def build():
    """Return the function that answers one request."""
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(11)
    shape = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 8}
    config = LlamaConfig(**shape, intermediate_size=5632, vocab_size=32000)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    prompt = torch.arange(1, 17, device="cuda").reshape(1, 16)

    def answer() -> list[object]:
        with torch.inference_mode():
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
                pad_token_id=0,
            )
        scores = [logits.float().log_softmax(-1).max().item() for logits in out.logits]
        return [out.sequences[0, 16:].tolist(), scores]

    answer()
    return answer


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    from serving import serve

    serve(build())
