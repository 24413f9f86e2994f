"""What a bad input leads to: nothing (silent), an error from inside (raw), or clear words."""

import warnings

from influencekit.exceptions import InfluenceKitWarning

#: What torch, numpy and Python say of themselves, and no user should have to read first.
INTERNAL = (
    "mat1 and mat2", "size mismatch", "Expected all tensors", "expected scalar type",
    "index out of range", "out of bounds", "shapes cannot be multiplied", "must match the size",
    "could not be broadcast", "'NoneType' object", "could not convert string",
    "can't convert np.ndarray", "element 0 of tensors", "Dimension out of range", "vmap",
    "stack expects each", "not supported between", "unsupported operand", "setting an array",
    "invalid literal", "is not iterable", "is not subscriptable", "has no len()",
    "truth value of an array", "cannot be interpreted as an integer",
)  # fmt: skip
#: Types that say only that something broke.
BARE = (RuntimeError, AssertionError, KeyError, AttributeError, IndexError, Exception)
#: An error or warning says one of these.
ADVICE = (
    "ccepted", "must be", "Give ", "give ", "Use ", "Leave", "leave ", "Drop", "drop the", "fit",
    "Set ", "Make ", "Pass ", "Valid", "Name ", "Select", "Freeze", "Pad ", "Encode", "Rescale",
    "Raise", "raise ", "First run", "Load ", "Unfreeze", "must come", "same task",
    "must have", "needs at least", "Retrain", "State",
)  # fmt: skip


def outcome(use, said):
    """Kind of the outcome, "silent", "raw", "unclear" or "clear", and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = use(), None
        except Exception as found:
            result, error = None, found
    if error is None:
        own = [str(w.message) for w in caught if issubclass(w.category, InfluenceKitWarning)]
        message = " | ".join(own)
        if not own:
            return "silent", repr(result)[:200]
    else:
        message = f"{type(error).__name__}: {error}"
        text = str(error)
        named = text.split(":")[0].strip("`").replace("_", "").isalnum()  # "X_query: got ..."
        if type(error) in BARE or (not named and any(phrase in text for phrase in INTERNAL)):
            return "raw", message
    missing = [word for word in said.split("; ") if word.strip() not in message]
    if missing or not any(word in message for word in ADVICE):
        named = said.split("; ")[0] in message
        return (
            "unclear" if named or error is not None else "silent"
        ), f"{missing} not in {message}"
    return "clear", message
