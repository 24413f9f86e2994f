"""
Which texts taught the model this word? Top texts
=================================================

A text classifier reads the description of an estimator of scikit-learn and says what it is: a
classifier, a regressor, a transformer or a clusterer.  Which descriptions of its training data
stand behind an answer?  The texts are the docstrings that come with scikit-learn, so nothing has
to be fetched.
"""

# %%
# Texts and a pipeline
# --------------------
# The opening of each docstring, up to its list of parameters.  The name of the class is not given,
# only what is said about it.

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from influencekit import InfluenceFunction
from influencekit.displays import TopExamplesDisplay

rows = {}
for kind in ("classifier", "regressor", "transformer", "cluster"):
    for name, estimator in all_estimators(type_filter=kind):
        text = " ".join((estimator.__doc__ or "").split("Parameters\n")[0].split())
        text = text.split("Read more in")[0].split(".. versionadded")[0].strip()
        if name not in rows and len(text) > 20:
            rows[name] = {"text": text, "kind": kind}
texts = pd.DataFrame.from_dict(rows, orient="index")
train, test = train_test_split(texts, test_size=0.25, stratify=texts.kind, random_state=0)

words = make_column_transformer((TfidfVectorizer(sublinear_tf=True, stop_words="english"), "text"))
model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
model.fit(train[["text"]], train["kind"])
accuracy = model.score(test[["text"]], test["kind"])
print(f"{len(train)} texts to train, accuracy {accuracy:.2f} on {len(test)}")

# %%
# One answer, explained
# ---------------------
# The wrong answer that the model is surest of.  Its own prediction is explained.

probability = model.predict_proba(test[["text"]])
answers = model.predict(test[["text"]])
sure = np.where(answers != test["kind"], probability.max(1), 0)
row = int(sure.argmax())
print(f"{test.index[row]}: {answers[row]} with probability {sure[row]:.2f}; "
      f"a {test['kind'].iloc[row]} in truth\n")  # fmt: skip
print(textwrap.fill(test["text"].iloc[row], 90))

influence = InfluenceFunction().fit(model, train[["text"]], train["kind"])
display = TopExamplesDisplay.from_estimator(
    influence, train[["text"]], test[["text"]], y_train=train["kind"], rows=[row], k=5, plot=False
)
table = display.to_frame()
table[["train", "score", "label", "text"]]

# %%
# The same as a picture
# ---------------------

display.plot()
display.ax_.set_xlabel(f"score: log-probability of “{answers[row]}”")
plt.show()

# %%
# What to take home
# -----------------
# The mistake explains itself: the regressor's twin text is in the training data, nearly word for
# word, and speaks for the wrong answer more than any other.  Ensembles of trees that classify pull
# the other way.  Duplicates, and templates with one word changed, are what top texts are best at
# finding.  With a bag of words that is also all that a text can say; for models that read the order
# of words, and for millions of tokens, see :doc:`/docs/language_models`.
