# %% [markdown]
# # What the engineered features add
#
# 14 raw columns become 47 features. Which of the 33 derived ones tell a model something that it
# could not read off the raw columns by itself, and what are the others good for?
#
# Families of features are added to the raw columns one at a time, and taken away from the whole
# one at a time (ablation). All models are compared on the same unseen rows, pair by pair.

# %%
from contextlib import redirect_stdout
from io import StringIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from configs.settings import load_settings
from feature_store.connect import offline_store
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import training_rows
from models.base import narrowed
from models.evaluation import intervals
from models.evaluation.metrics import log_loss, row_losses
from models.families import new_model
from models.reports.charts import BLUE, GREY, ORANGE, STYLE
from models.rows.masking import Masker
from models.rows.split import split_rows
from models.training.fit import fit
from pipelines.feature_pipeline import feature_pipeline

plt.rcParams.update(STYLE)
with redirect_stdout(StringIO()):
    feature_pipeline()  # fills the stores if they are empty; else it adds nothing
# Complete rows only: masked copies would treble the time of every training below.
settings = load_settings(training={"masking": {"copies": 0}})
config, schema = settings.training, MODEL_VIEW.schema
rows = training_rows(offline_store(settings), schema, MODEL_VIEW.entity, config.start, config.end)
split = split_rows(
    rows.features,
    rows.labels,
    test_share=config.test_share,
    validation_share=config.validation_share,
    seed=config.seed,
)
print(f"{len(split.train):,} rows to learn from, {len(split.test):,} to judge by")

# %% [markdown]
# ## Which features rank people best, alone?

# %%
areas = {}
for place, feature in enumerate(schema.features):
    column = split.train.features.values[:, place]
    if feature.kind == "category":  # each word stands for its share of 1s among training rows
        shares = pd.Series(split.train.labels).groupby(column).mean()
        column = shares.reindex(split.test.features.values[:, place]).fillna(0.24).to_numpy()
    else:
        column = np.nan_to_num(split.test.features.values[:, place], nan=-1.0)
    area = roc_auc_score(split.test.labels, column)
    areas[feature.name] = max(area, 1 - area)
alone = pd.Series(areas).sort_values(ascending=False)
is_raw = {feature.name for feature in MODEL_VIEW.raw_features}
best = alone.head(20)
figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
axes.barh(best.index, best, color=[GREY if n in is_raw else BLUE for n in best.index], height=0.7)
axes.invert_yaxis()
axes.grid(visible=False, axis="y")
axes.set(title="One feature alone (grey: raw, blue: derived)", xlabel="ROC-AUC", xlim=(0.5, 0.85))
plt.show()
print(alone.tail(5).round(4).to_string())

# %% [markdown]
# **Products of what belongs together.** The best single feature of all 47 is a derived one, the rank of
# education of a husband or wife; the weekly hours of one come second, before any raw column. Age times
# education, education times hours and age times hours each rank people better than either factor. At
# the other end stands the census weight at 0.504, and the flag of a capital loss at 0.534: that one is
# not useless but rare, and an area under the curve hardly sees what few people have.

# %% [markdown]
# ## Which features say the same twice?

# %%
numbers = [f.name for f in schema.features if f.kind != "category"]
places = [schema.position(name) for name in numbers]
table = pd.DataFrame(split.train.features.values[:, places], columns=numbers)
correlation = table.corr(method="spearman").abs()
above = correlation.where(np.triu(np.ones(correlation.shape, dtype=bool), 1)).stack()
twins = above[above > 0.95].sort_values(ascending=False)
print(f"{len(twins)} of {len(above)} pairs of numbers have the same order (|ρ| > 0.95):")
print(twins.round(3).head(12).to_string())

# %% [markdown]
# **11 of 465 pairs do.** Squares and logarithms keep the order, so to a tree they *are* the same column, and
# `years_of_school` all but repeats the rank. This is the price of features for every kind of model: what
# a tree can do without, a straight line cannot. It also means that importance is shared out among
# twins at random, which is one reason to ask by ablation and not by importance.

# %% [markdown]
# ## What does each family add?
#
# "Added" is a model of the raw columns and one family; "taken away" is a model of all features but
# that family. A difference is of log losses, row by row, with its 95 % interval: below zero is
# better than without.

# %%
families = {
    "capital": [n for n in schema.names if n.startswith(("capital_", "has_capital"))],
    "hours": ["hours_band", "is_overtime", "is_part_time", "overtime_hours"],
    "education": ["education_group", "has_degree", "has_advanced_degree", "years_of_school"],
    "age": ["age_band", "age_squared", "years_of_experience", "is_prime_age"],
    "household": ["is_married", "marital_group", "relationship_group", "heads_family_alone"],
    "work": ["occupation_group", "is_white_collar", "work_sector", "is_self_employed"],
    "country": ["country_region"],
    "interactions": [
        *("age_hours", "education_hours", "age_education"),
        *("spouse_education", "spouse_hours", "manager_education"),
    ],
}
raw = [feature.name for feature in MODEL_VIEW.raw_features]
families = {name: [n for n in members if n not in raw] for name, members in families.items()}
derived = [n for n in schema.names if n not in raw]
assert sorted(derived) == sorted(n for members in families.values() for n in members)

takes = {"raw only": raw, "everything": list(schema.names)}
for name, members in families.items():
    takes[f"+ {name}"] = [n for n in schema.names if n in raw or n in members]
    takes[f"− {name}"] = [n for n in schema.names if n not in members]
losses = {}
for name, members in takes.items():
    masker = Masker(MODEL_VIEW, schema.select(members))
    model = fit(new_model(config), split, masker, config)
    probabilities = model.predict_proba(masker.narrow(split.test.features))
    losses[name] = row_losses(split.test.labels, probabilities)
print(f"log loss with raw columns only: {losses['raw only'].mean():.4f}")
print(f"log loss with all 47 features:  {losses['everything'].mean():.4f}")
whole = intervals.mean(losses["everything"] - losses["raw only"])
print(f"difference: {whole.value:+.4f} [{whole.low:+.4f}, {whole.high:+.4f}]")

# %%
added = {n: intervals.mean(losses[f"+ {n}"] - losses["raw only"]) for n in families}
taken = {n: intervals.mean(losses[f"− {n}"] - losses["everything"]) for n in families}
figure, panels = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", sharey=True)
titles = ("Added to the raw columns", "Taken away from everything")
for axes, found, title, colour in zip(panels, (added, taken), titles, (BLUE, ORANGE), strict=True):
    values = np.array([each.value for each in found.values()])
    spread = np.abs(np.array([(each.low, each.high) for each in found.values()]).T - values)
    axes.errorbar(values, list(found), xerr=spread, fmt="o", color=colour, capsize=3)
    axes.axvline(0, color=GREY, linestyle=(0, (4, 4)), linewidth=1)
    axes.set(title=title, xlabel="change of log loss (left is better)")
panels[0].invert_yaxis()
plt.show()
shown = pd.DataFrame(
    {
        "features": {n: len(members) for n, members in families.items()},
        "added": {n: f"{e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}]" for n, e in added.items()},
        "taken away": {
            n: f"{e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}]" for n, e in taken.items()
        },
    }
)
print(shown.to_string())

# %% [markdown]
# **Little, and none of it is indispensable.** Everything together lowers the log loss of trees from 0.2760
# to 0.2747, a difference whose interval reaches over zero (−0.0032 to +0.0007). Six of the eight
# families look useful when each is added to the raw columns alone, interactions most (−0.0028); four
# features of education are no help (+0.0012). But taken away from the whole, no family is missed: every
# interval holds zero, and the others stand in for it. Two cautions: with eight families looked at
# twice, one interval in twenty misses by luck; and intervals count the luck of the test rows, not that
# of training, in which each tree draws a fifth of the columns.

# %% [markdown]
# ## And for a model that cannot bend?
#
# Trees cut where they like. A linear model can only use what it is given: the same numbers, raw
# and engineered, in a logistic regression.

# %%
given = {
    "raw numbers": [f.name for f in MODEL_VIEW.raw_features if f.kind != "category"],
    "all numbers": numbers,
}
linear = {}
for name, members in given.items():
    train, test = (
        np.nan_to_num(narrowed(part.features, schema.select(members)).values)
        for part in (split.train, split.test)
    )
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    regression.fit(train, split.train.labels)
    answers = regression.predict_proba(test)[:, 1].astype(np.float32)
    linear[name] = row_losses(split.test.labels, answers)
    area = roc_auc_score(split.test.labels, answers)
    loss = log_loss(split.test.labels, answers)
    print(f"{name:12} {len(members):2} features: ROC-AUC {area:.4f}, log loss {loss:.4f}")
gain = intervals.mean(linear["all numbers"] - linear["raw numbers"])
print(f"difference of log loss: {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")

# %% [markdown]
# **Everything.** The log loss of a straight line falls by a quarter (0.4163 to 0.3145), its ROC-AUC rises
# from 0.821 to 0.910. Part of that is words that have become numbers (married or not, a desk or
# not), which the six raw numbers do not know; the rest are bends and products. So the derived features
# earn their place by families of models that cannot bend, by what people can read, and by slices; for
# trees alone the 14 raw columns would nearly do.
