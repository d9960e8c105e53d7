"""Library passes under the names of this project: constants, no-ops, and what nobody reads.

Before::

    y = Add(Mul(Identity(x), 1), Shape(w)[0])      two equal initializers, one of them unread

After::

    y = Add(x, 64)

A graph that holds DequantizeLinear of a constant keeps it: folding it would undo the quantization.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as library


class FoldConstants(ir.passes.InPlacePass):
    """Replace what depends on constants alone by its value, and move Constant nodes to the initializers."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold until nothing changes, at most three times."""
        from onnxscript import optimizer

        lifted = library.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        modified = False
        for _ in range(3):
            folded = bool(optimizer.fold_constants(model, onnx_shape_inference=True).modified)
            modified |= folded
            if not folded:
                break
        modified |= lifted(model).modified
        return ir.passes.PassResult(model, modified)


def fold_constants() -> ir.passes.PassBase:
    """Make the pass that folds constants and drops what they came from."""
    return ir.passes.Sequential(FoldConstants(), library.RemoveUnusedNodesPass())


def simplify() -> ir.passes.PassBase:
    """Make the pass that removes operators without effect and pads, clips and hard swishes in pieces."""
    from onnxscript.rewriter import RewritePass
    from onnxscript.rewriter.rules import common

    rules = [
        common.mul_by_1_rule,
        common.div_by_1_rule,
        common.add_0_rule,
        common.sub_0_rule,
        common.dropout_zero_rule,
        common.dropout_inference_rule,
        common.cast_cast_rule,
        common.no_op_cast_rule,
        common.no_op_expand_rule,
        common.successive_relu_rule,
        common.successive_clip_rule,
        common.successive_relu_clip_rule,
        common.successive_clip_relu_rule,
        common.normalize_pad_format_conv_rule,
        common.fuse_pad_into_conv_rule,
    ]
    # The rules leave Identity nodes behind, so those go last.
    return ir.passes.Sequential(
        RewritePass(rules), library.IdentityEliminationPass(), library.RemoveUnusedNodesPass()
    )


def tidy() -> ir.passes.PassBase:
    """Make the pass that merges equal expressions and equal constants and drops what nobody reads."""
    return ir.passes.Sequential(
        library.DeduplicateInitializersPass(size_limit=4096),
        library.CommonSubexpressionEliminationPass(),
        library.RemoveUnusedNodesPass(),
        library.RemoveUnusedOpsetsPass(),
        library.TopologicalSortPass(),
    )
