# %% [markdown]
# # What is in the data
#
# 48,842 people of the 1994 US census, and whether each earned more than 50K a year. Before any
# model: what can be learned from these columns, what cannot, and what would mislead?
#
# Everything is read out of the feature store, point in time, as a model would get it.

# %%
from contextlib import redirect_stdout
from io import StringIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from feature_store.feature_definitions import MODEL_VIEW
from feature_store.retrieval import get_training_data
from models.evaluation import intervals
from models.reports.charts import BLUE, GREY, ORANGE, STYLE
from pipelines.feature_pipeline import feature_pipeline

plt.rcParams.update(STYLE)
with redirect_stdout(StringIO()):
    feature_pipeline()  # fills the stores if they are empty; else it adds nothing
features, income = get_training_data(["user_features:*"], "income", "2020-01-01", "2024-01-01")
raw = features[[feature.name for feature in MODEL_VIEW.raw_features]].assign(income=income)
raw.sample(5, random_state=7)

# %%
base_rate = intervals.share(int(income.sum()), len(income))
print(f"{len(raw):,} rows, {raw.shape[1] - 1} raw columns")
print(f"share above 50K: {base_rate.value:.2%} [{base_rate.low:.2%}, {base_rate.high:.2%}]")

# %% [markdown]
# ## Is missing data missing at random?

# %%
absent = raw.isna()
holes = absent.sum()[absent.any()].to_frame("missing")
holes["share"] = (holes["missing"] / len(raw)).map("{:.2%}".format)
print(holes.to_string(), "\n")
print(pd.crosstab(absent["workclass"], absent["occupation"]).to_string(), "\n")
never_worked = absent["occupation"] & ~absent["workclass"]
print(raw.loc[never_worked, "workclass"].value_counts().to_string())

# %%
groups = {
    "nothing missing": ~absent.any(axis=1),
    "occupation missing": absent["occupation"],
    "country missing": absent["native_country"],
}
rates = [intervals.share(int(income[which].sum()), int(which.sum())) for which in groups.values()]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
values = np.array([each.value for each in rates])
spread = np.abs(np.array([(each.low, each.high) for each in rates]).T - values)
left.errorbar(values, list(groups), xerr=spread, fmt="o", color=BLUE, capsize=3)
left.axvline(base_rate.value, color=GREY, linestyle=(0, (4, 4)), linewidth=1)
left.set(
    title="A missing occupation tells",
    xlabel="share above 50K, 95 % interval",
    xlim=(0, 0.3),
)
left.margins(y=0.3)
by_age = absent["occupation"].groupby(raw["age"].astype(int)).agg(["mean", "size"])
by_age = by_age[by_age["size"] >= 30]
right.bar(by_age.index, by_age["mean"], color=BLUE, width=0.9)
right.set(title="Missing occupation by age", xlabel="age", ylabel="share missing")
plt.show()

# %% [markdown]
# **No.** Employer and occupation are missing together, in 2,799 rows; ten more have never worked, so
# there is no occupation to know. It happens to the young and the old (14.3 % below 25 or from 60 on,
# 2.8 % between), and those rows earn above 50K in 9.4 % of cases against 24.8 % where nothing is
# missing: the hole is a fact about a person. A missing country (857 rows, 25.7 %) cannot be told from
# the base rate. So missing has a code of its own here. Dropping these rows, or filling in the most
# frequent word, would throw the fact away.

# %% [markdown]
# ## What are the spikes in capital gain?

# %%
gain = raw["capital_gain"].astype(int)
print(f"zero: {(gain == 0).mean():.1%}; distinct other values: {gain[gain > 0].nunique()}")
spikes = income.groupby(gain).agg(rows="size", above="mean")
spikes = spikes[spikes.index > 0]
certain = spikes[(spikes["above"].isin([0, 1])) & (spikes["rows"] >= 10)]
print(
    f"values with at least 10 rows: {(spikes['rows'] >= 10).sum()}; "
    f"of those with one label only: {len(certain)}, which hold {certain['rows'].sum():,} rows"
)
print(spikes.sort_values("rows", ascending=False).head(8).round(3).to_string())

# %%
figure, axes = plt.subplots(figsize=(11, 3.8), layout="constrained")
shown = spikes[spikes["rows"] >= 5]
axes.scatter(shown.index, shown["above"], s=shown["rows"] * 1.5, color=BLUE, alpha=0.5, linewidth=0)
axes.axhline(base_rate.value, color=GREY, linestyle=(0, (4, 4)), linewidth=1)
axes.annotate(
    f"99,999 is a cap: {spikes.loc[99999, 'rows']:.0f} rows, all above 50K",
    (99999, 0.95),
    (16000, 0.55),
    color=ORANGE,
    arrowprops={"arrowstyle": "->", "color": ORANGE},
)
axes.set(
    title="Each value of capital gain nearly decides the label (area: number of rows)",
    xlabel="capital gain, USD (logarithmic)",
    ylabel="share above 50K",
    xscale="log",
    ylim=(-0.08, 1.1),
)
plt.show()

# %% [markdown]
# **They are almost labels.** 91.7 % of the rows have none. The others crowd on 122 values, of which
# 68 come ten times or more, and 66 of those 68 have *one label only*: 3,520 rows that a model can
# learn by heart. 99,999 is no amount but a cap (244 rows, all above 50K). Two lessons: trees, which cut
# between values, will beat whatever is smooth here, as long as the world stays in 1994; and a gain
# that was never seen (in production, most are) falls between spikes, where nothing was learned. The
# logarithm and the flag `has_capital_gain` exist for models that cannot cut.

# %% [markdown]
# ## Do two columns of education say more than one?

# %%
pairs = raw.groupby("education")["education_num"].agg(["nunique", "min", "size"])
print(f"words: {len(pairs)}, pairs of word and rank: {pairs['nunique'].sum()}")
ladder = raw.groupby(raw["education_num"].astype(int)).agg(
    word=("education", "first"), rows=("income", "size"), above=("income", "mean")
)
figure, axes = plt.subplots(figsize=(11, 3.8), layout="constrained")
axes.bar(ladder["word"], ladder["above"], color=BLUE, width=0.75)
axes.set(title="Income by level of education, in order of rank", ylabel="share above 50K")
axes.tick_params(axis="x", rotation=40)
axes.grid(visible=False, axis="x")
for place, rows in enumerate(ladder["rows"]):
    axes.text(place, ladder["above"].iloc[place] + 0.01, f"{rows:,}", ha="center", color=GREY)
plt.show()

# %% [markdown]
# **They do not.** 16 words, 16 ranks, 16 pairs: each determines the other, so the feature store fills
# either from the other and hides both together when it masks. The order is worth having, though:
# income hardly moves below a high-school diploma, then climbs, and the step to Prof-school is the last
# (it stands above Doctorate). A rank is no number of years: `years_of_school` is a feature of its own.

# %% [markdown]
# ## Is the census weight a feature?

# %%
weight = raw["fnlwgt"].astype(int)
area = roc_auc_score(income, weight)
weighted = float(np.average(income, weights=weight))
print(f"ROC-AUC of the weight alone: {area:.4f} (0.5 is chance)")
print(f"share above 50K: {income.mean():.2%} of rows, {weighted:.2%} of the people they stand for")
print(f"one row stands for {weight.min():,} to {weight.max():,} people, median {weight.median():,}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
bins = np.linspace(0, 600_000, 61)
for label, colour in ((0, GREY), (1, BLUE)):
    left.hist(
        weight[income == label],
        bins,
        density=True,
        histtype="step",
        color=colour,
        linewidth=1.6,
        label=("up to 50K", "above 50K")[label],
    )
left.set(title="The weight does not tell the labels apart", xlabel="people a row stands for")
left.set_yticks([])
left.set_xticks([0, 200_000, 400_000, 600_000])
left.legend()
by_race = weight.groupby(raw["race"]).median().sort_values()
right.barh(by_race.index, by_race / 1000, color=BLUE, height=0.7)
right.set(title="… but it tells of the sampling design", xlabel="median weight, thousands")
right.grid(visible=False, axis="y")
plt.show()

# %% [markdown]
# **Not for predicting.** Alone it ranks people as chance does (0.496), and weighting the rows by it
# moves the base rate by 0.15 points only. It is about the survey: how many people of that sex, race
# and age a row had to stand for in its state. That is why its median differs by race by a factor of
# two, and why a flexible model can read a protected attribute out of it. It stays in the store,
# because the published task has it; its importance in a model is a warning.

# %% [markdown]
# ## How do age and hours work together?

# %%
age_band = pd.cut(raw["age"].astype(int), [16, 24, 29, 34, 39, 44, 49, 54, 59, 64, 90])
hours_band = pd.cut(raw["hours_per_week"].astype(int), [0, 19, 34, 39, 40, 49, 59, 99])
table = income.groupby([hours_band, age_band], observed=True).agg(["mean", "size"])
share = table["mean"].where(table["size"] >= 30).unstack().sort_index(ascending=False)
figure, axes = plt.subplots(figsize=(11, 4), layout="constrained")
image = axes.imshow(share, cmap="Blues", vmin=0, vmax=0.6, aspect="auto")
for (row, column), value in np.ndenumerate(share.to_numpy()):
    if not np.isnan(value):
        ink = "white" if value > 0.35 else "black"
        axes.text(column, row, f"{value:.0%}", ha="center", va="center", color=ink)
axes.set_xticks(range(share.shape[1]), [f"{each.left + 1:.0f}–{each.right:.0f}" for each in share])
axes.set_yticks(
    range(share.shape[0]), [f"{each.left + 1:.0f}–{each.right:.0f}" for each in share.index]
)
axes.grid(visible=False)
axes.set(title="Share above 50K (cells of 30 rows or more)", xlabel="age", ylabel="hours a week")
figure.colorbar(image, label="share above 50K")
plt.show()

# %%
rows = raw.assign(age=raw["age"].astype(int), hours=raw["hours_per_week"].astype(int))
rows["is_older"], rows["is_long"] = rows["age"] >= 35, rows["hours"] > 40
effect = rows.groupby(["is_older", "is_long"])["income"].mean().unstack()
print(effect.round(3).to_string())
print(
    f"more than 40 hours adds {effect.loc[False, True] - effect.loc[False, False]:.1%} below 35 "
    f"and {effect.loc[True, True] - effect.loc[True, False]:.1%} from 35 on"
)

# %% [markdown]
# **They multiply.** Below 25 nobody earns much, whatever the hours. At 40 hours the share peaks at
# 35 % between 50 and 54, at 50 to 59 hours at 60 %. More than 40 hours goes with 16.8 points more below
# 35 and 22.1 points more from 35 on. Three things follow for features: exactly 40 is a crowd of its
# own (`hours_band` keeps it apart), more hours stop paying at 60, and a product (`age_hours`) helps
# models that only add.

# %% [markdown]
# ## How well can anybody do?
#
# People who agree in every column, and yet not in their label, cannot be told apart by any model.

# %%
known = raw.drop(columns=["fnlwgt", "income"]).astype("string").fillna("?")
person = known.agg("|".join, axis=1)
group = income.groupby(person).agg(["size", "sum"])
alike = group[group["size"] > 1]
mixed = alike[(alike["sum"] > 0) & (alike["sum"] < alike["size"])]
mistakes = int(np.minimum(mixed["sum"], mixed["size"] - mixed["sum"]).sum())
with_weight = raw.astype("string").fillna("?").duplicated().sum()
print(f"rows that agree with another in all but the weight: {alike['size'].sum():,}")
print(f"of those in groups with both labels: {mixed['size'].sum():,} rows in {len(mixed):,} groups")
print(f"so at least {mistakes:,} of them are wrong for whoever decides by these columns:")
print(f"accuracy on rows with a twin is at most {1 - mistakes / alike['size'].sum():.2%}")
print(f"rows that are equal to an earlier one in everything, weight and label too: {with_weight}")

# %%
by_size = alike.assign(
    of=pd.cut(alike["size"], [1, 2, 3, 5, 10, 100], labels=["2", "3", "4–5", "6–10", "11 or more"])
)
by_size["wrong"] = np.minimum(by_size["sum"], by_size["size"] - by_size["sum"])
noise = by_size.groupby("of", observed=True)[["wrong", "size"]].sum()
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.bar(noise.index.astype(str), noise["wrong"] / noise["size"], color=BLUE, width=0.7)
axes.set(
    title="Rows that no model of these columns gets right",
    xlabel="people who are alike",
    ylabel="share of the rows",
)
axes.grid(visible=False, axis="x")
plt.show()

# %% [markdown]
# **Not perfectly.** 11,174 rows have a twin in everything but the census weight, and 1,029 groups of
# twins disagree. Whoever decides by these columns is wrong in at least 1,380 of them: no more than
# 87.65 % of rows with a twin can be right. The more people are alike, the clearer it shows: in large
# groups the minority is hardly ever empty, in pairs it often is by luck. Models reach some 87.5 % of
# all rows: they are much closer to the ceiling than to 100 %. And 52 rows are repeated to the last
# value: a split that lets twins fall on both sides would test what was learned by heart, so ours
# keeps equal rows together.
