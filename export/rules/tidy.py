"""Library passes under the names of this project: constants, no-ops, and what nobody reads.

Before::

    y = Add(Mul(Identity(x), 1), Shape(w)[0])      two equal initializers, one of them unread

After::

    y = Add(x, 64)

A graph that holds DequantizeLinear of a constant keeps it: folding it would undo the quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as library

if TYPE_CHECKING:
    from onnxscript.rewriter import RewriteRule


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


def clean_export() -> ir.passes.PassBase:
    """Make the pass that turns what torch's exporter writes into a graph without functions and leftovers.

    It takes the place of the exporter's ``optimize=True`` and does the same, but for one rule: two halves of
    a tensor stay two Slices. As that rule seeks a pair of operators, it tries each with all others, so that
    its time grows with the square of the graph.
    """
    from onnxscript.rewriter import RewritePass

    return ir.passes.Sequential(
        library.InlinePass(),
        ir.passes.PassManager(
            [FoldConstants(), RewritePass(_export_rules()), library.RemoveUnusedNodesPass()],
            steps=2,
            early_stop=True,
        ),
        library.RemoveUnusedFunctionsPass(),
        library.RemoveUnusedOpsetsPass(),
        library.LiftSubgraphInitializersToMainGraphPass(),
        library.DeduplicateInitializersPass(),
        library.CommonSubexpressionEliminationPass(),
        library.OutputFixPass(),
        library.NameFixPass(),
    )


def _export_rules() -> list[RewriteRule]:
    from onnxscript.rewriter import RewriteRuleSet
    from onnxscript.rewriter.rules import common

    both_ways = RewriteRuleSet([common.mul_by_1_rule, common.add_0_rule], commute=True).rules
    names = (
        "sub_0 div_by_1 dropout_zero dropout_inference two_reshapes_matmul_reshape "
        "one_reshape_matmul_reshape cast_constant_of_shape cast_constant_of_shape_without_value "
        "collapse_slice collapse_slice2 materialize_reshape_shape min_min max_max min_max max_min "
        "successive_clip_relu successive_relu_clip successive_relu successive_clip cast_cast no_op_cast "
        "no_op_expand flatten_to_reshape reshape_reshape no_op_transpose transpose_transpose "
        "unsqueeze_unsqueeze squeeze_reshape_1d no_op_dynamic_scatter_nd no_op_static_scatter_nd "
        "normalize_pad_format_conv fuse_pad_into_conv fuse_batchnorm_into_conv "
        "fuse_batchnorm_into_conv_transpose fuse_batchnorm_into_gemm remove_optional_bias_from_conv "
        "remove_optional_bias_from_conv_transpose remove_optional_bias_from_gemm"
    )
    return [*both_ways, *(getattr(common, f"{name}_rule") for name in names.split())]


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
