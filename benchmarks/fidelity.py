"""What conversion alone costs: the canonical graph against PyTorch, instance by instance and in AP.

    python benchmarks/fidelity.py [--pictures 200]

Runs the demo model on held-out scenes. Prints the worst pair's agreement, what has no partner, and
the AP of both.
"""

import argparse

from held_out import demo_and_scenes

from maskrt.checking.references import canonical_session, pytorch_session
from maskrt.demo import weights_path
from maskrt.runtime.check import combine, compare, evaluate, violations


def main() -> None:
    """Export, run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    with (
        demo_and_scenes(options.pictures) as (bundle, dataset),
        canonical_session(bundle) as ours,
        pytorch_session(bundle, weights_path()) as theirs,
    ):
        matches = {
            entry.path.name: compare(theirs.predict(entry.path), ours.predict(entry.path))
            for entry in dataset.images
        }
        found = {
            "PyTorch FP32": evaluate(theirs.predict, dataset).metrics,
            "canonical FP32": evaluate(ours.predict, dataset).metrics,
        }
    match = combine(matches.values())
    print(f"{match.pairs} instances in {options.pictures} scenes, paired one to one")
    print(f"worst box IoU {match.box_iou:.6f}, worst mask IoU {match.mask_iou:.6f}, "
          f"worst score difference {match.score_difference:.1e}")  # fmt: skip
    print(f"without a partner: {len(match.reference_only)} of PyTorch's, "
          f"{len(match.candidate_only)} of ours")  # fmt: skip
    for model, metrics in found.items():
        print(f"{model:15} box AP {metrics['box']['AP']:.3f}, mask AP {metrics['mask']['AP']:.3f}")
    for name, one in matches.items():
        for sentence in violations(one):
            print(f"limit missed in {name}: {sentence}")


if __name__ == "__main__":
    main()
