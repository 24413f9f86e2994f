"""Pictures of results; matplotlib is needed only when something is drawn."""

from influencekit.displays._agreement import AgreementDisplay
from influencekit.displays._error_proxy import ErrorProxyDisplay
from influencekit.displays._group_scores import GroupScoresDisplay
from influencekit.displays._influence_plot import InfluencePlotDisplay
from influencekit.displays._label_issues import LabelIssuesDisplay
from influencekit.displays._lambda_path import LambdaPathDisplay
from influencekit.displays._removal_curve import RemovalCurveDisplay
from influencekit.displays.examples._top_examples import TopExamplesDisplay
from influencekit.displays.sensitivity._sensitivity import SensitivityDisplay

__all__ = [
    "AgreementDisplay",
    "ErrorProxyDisplay",
    "GroupScoresDisplay",
    "InfluencePlotDisplay",
    "LabelIssuesDisplay",
    "LambdaPathDisplay",
    "RemovalCurveDisplay",
    "SensitivityDisplay",
    "TopExamplesDisplay",
]
