"""Every feature of the worked use case, written once: income above 50K (UCI Adult).

The 14 raw columns come first, then what is derived from them. To add a feature, add a function:
its name is the feature, its parameters are its inputs, its docstring is its description.
"""

from __future__ import annotations

import numpy as np

from feature_store.definitions.columns import (
    Bands,
    CodeByNumber,
    Codes,
    CodeTable,
    Membership,
    Numbers,
    NumberTable,
    flag,
    log1p,
)
from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import ActivityView, View

USER_FEATURES = FeatureView(
    "user_features", entity="user_id", tags={"team": "ml-platform"}, missing=("?",)
)
MODEL_VIEW = USER_FEATURES
"""The view that models are trained on unless they say otherwise."""

USER_ACTIVITY = ActivityView(
    "user_activity",
    entity="user_id",
    # The tail of a window moves in hops, so that a row holds 56 tiles and not every event.
    windows={"1d": "1h", "7d": "1d", "30d": "1d"},
    ttl="30d",
    tags={"team": "ml-platform"},
)
USER_ACTIVITY.count("events", description="Events of any type")
USER_ACTIVITY.count("purchases", event_type="purchase", description="Purchases")
USER_ACTIVITY.sum("amount", unit="units of money", description="Sum of the amounts")
USER_ACTIVITY.mean("amount", unit="units of money", description="Mean of the amounts")

VIEWS: tuple[View, ...] = (USER_FEATURES, USER_ACTIVITY)
"""Every view: what the catalogue page and the Feast repository are made from."""

raw, feature, fill = USER_FEATURES.raw, USER_FEATURES.feature, USER_FEATURES.fill

# ---- raw columns -------------------------------------------------------------------------------

raw(
    "age",
    integer=True,
    unit="years",
    valid_range=(0, 120),
    protected=True,
    description="Age at the time of the census.",
)
WORKCLASS = raw(
    "workclass",
    description="Kind of employer.",
    categories=(
        *("Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov"),
        *("State-gov", "Without-pay", "Never-worked"),
    ),
)
raw(
    "fnlwgt",
    integer=True,
    unit="people",
    valid_range=(1, 5_000_000),
    description="Number of people that the census believes this row stands for.",
)
EDUCATION = raw(
    "education",
    description="Highest level of education.",
    categories=(
        *("Preschool", "1st-4th", "5th-6th", "7th-8th", "9th", "10th", "11th", "12th"),
        *("HS-grad", "Some-college", "Assoc-voc", "Assoc-acdm", "Bachelors", "Masters"),
        *("Prof-school", "Doctorate"),
    ),
)
raw(
    "education_num",
    integer=True,
    unit="rank",
    valid_range=(1, 16),
    description="Level of education as a rank from 1 (preschool) to 16 (doctorate).",
)
MARITAL_STATUS = raw(
    "marital_status",
    protected=True,
    description="Marital status.",
    categories=(
        *("Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed"),
        *("Married-spouse-absent", "Married-AF-spouse"),
    ),
)
OCCUPATION = raw(
    "occupation",
    description="Kind of work.",
    categories=(
        *("Tech-support", "Craft-repair", "Other-service", "Sales", "Exec-managerial"),
        *("Prof-specialty", "Handlers-cleaners", "Machine-op-inspct", "Adm-clerical"),
        *("Farming-fishing", "Transport-moving", "Priv-house-serv", "Protective-serv"),
        "Armed-Forces",
    ),
)
RELATIONSHIP = raw(
    "relationship",
    protected=True,
    description="What the person is to the head of the household.",
    categories=(*("Wife", "Own-child", "Husband", "Not-in-family", "Other-relative", "Unmarried"),),
)
raw(
    "race",
    protected=True,
    description="Race, as the census names it.",
    categories=("White", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other", "Black"),
)
raw(
    "sex",
    protected=True,
    description="Sex, as the census names it.",
    categories=("Female", "Male"),
)
raw(
    "capital_gain",
    integer=True,
    unit="USD/year",
    valid_range=(0, 99_999),
    description="Capital gains; 99999 stands for that much or more.",
)
raw(
    "capital_loss",
    integer=True,
    unit="USD/year",
    valid_range=(0, 99_999),
    description="Capital losses.",
)
raw(
    "hours_per_week",
    integer=True,
    unit="hours/week",
    valid_range=(0, 168),
    description="Usual hours of work a week; 99 stands for that many or more in the census.",
)
COUNTRY = raw(
    "native_country",
    protected=True,
    description="Country of birth, spelled as in the census file.",
    categories=(
        *("United-States", "Cambodia", "England", "Puerto-Rico", "Canada", "Germany"),
        *("Outlying-US(Guam-USVI-etc)", "India", "Japan", "Greece", "South", "China", "Cuba"),
        *("Iran", "Honduras", "Philippines", "Italy", "Poland", "Jamaica", "Vietnam", "Mexico"),
        *("Portugal", "Ireland", "France", "Dominican-Republic", "Laos", "Ecuador", "Taiwan"),
        *("Haiti", "Columbia", "Hungary", "Guatemala", "Nicaragua", "Scotland", "Thailand"),
        *("Yugoslavia", "El-Salvador", "Trinadad&Tobago", "Peru", "Hong", "Holand-Netherlands"),
    ),
)

# ---- raw columns that follow from each other --------------------------------------------------

EDUCATION_RANKS = {word: rank for rank, word in enumerate(EDUCATION.categories, start=1)}
RANK_OF_EDUCATION = NumberTable(EDUCATION, EDUCATION_RANKS)
EDUCATION_OF_RANK = CodeByNumber(EDUCATION, EDUCATION_RANKS)


@fill("education_num")
def education_num_from_education(education: Codes) -> Numbers:
    """The rank follows from the level."""
    return RANK_OF_EDUCATION(education)


@fill("education")
def education_from_education_num(education_num: Numbers) -> Codes:
    """The level follows from the rank."""
    return EDUCATION_OF_RANK(education_num)


# ---- capital ----------------------------------------------------------------------------------


@feature(unit="USD/year", valid_range=(-99_999, 99_999), integer=True)
def capital_net(capital_gain: Numbers, capital_loss: Numbers) -> Numbers:
    """Capital gains less capital losses."""
    return capital_gain - capital_loss


@feature(unit="log USD/year", valid_range=(0, 12))
def capital_gain_log(capital_gain: Numbers) -> Numbers:
    """Logarithm of one plus the capital gains."""
    return log1p(capital_gain)


@feature(unit="log USD/year", valid_range=(0, 12))
def capital_loss_log(capital_loss: Numbers) -> Numbers:
    """Logarithm of one plus the capital losses."""
    return log1p(capital_loss)


@feature(valid_range=(0, 1), integer=True)
def has_capital_gain(capital_gain: Numbers) -> Numbers:
    """Whether there were any capital gains."""
    return flag(capital_gain > 0, of=capital_gain)


@feature(valid_range=(0, 1), integer=True)
def has_capital_loss(capital_loss: Numbers) -> Numbers:
    """Whether there were any capital losses."""
    return flag(capital_loss > 0, of=capital_loss)


@feature(valid_range=(0, 1), integer=True)
def has_capital_activity(has_capital_gain: Numbers, has_capital_loss: Numbers) -> Numbers:
    """Whether there were capital gains or losses of any kind."""
    return np.maximum(has_capital_gain, has_capital_loss)


# ---- hours ------------------------------------------------------------------------------------

HOURS_BANDS = Bands([20, 35, 40, 41, 50, 60])


@feature(categories=HOURS_BANDS.categories)
def hours_band(hours_per_week: Numbers) -> Codes:
    """Band of weekly hours; exactly 40 is a band of its own."""
    return HOURS_BANDS(hours_per_week)


@feature(valid_range=(0, 1), integer=True)
def is_overtime(hours_per_week: Numbers) -> Numbers:
    """Whether the person works more than 40 hours a week."""
    return flag(hours_per_week > 40, of=hours_per_week)


@feature(valid_range=(0, 1), integer=True)
def is_part_time(hours_per_week: Numbers) -> Numbers:
    """Whether the person works fewer than 35 hours a week."""
    return flag(hours_per_week < 35, of=hours_per_week)


@feature(unit="hours/week", valid_range=(0, 128), integer=True)
def overtime_hours(hours_per_week: Numbers) -> Numbers:
    """Hours above 40 a week."""
    return np.maximum(hours_per_week - np.float32(40), np.float32(0))


# ---- education --------------------------------------------------------------------------------

EDUCATION_GROUPS = CodeTable(
    EDUCATION,
    {
        "below-high-school": [
            *("Preschool", "1st-4th", "5th-6th", "7th-8th", "9th", "10th", "11th", "12th"),
        ],
        "high-school": ["HS-grad"],
        "some-college": ["Some-college", "Assoc-voc", "Assoc-acdm"],
        "bachelor": ["Bachelors"],
        "advanced": ["Masters", "Prof-school", "Doctorate"],
    },
)
DEGREES = Membership(EDUCATION, "Bachelors", "Masters", "Prof-school", "Doctorate")
ADVANCED_DEGREES = Membership(EDUCATION, "Masters", "Prof-school", "Doctorate")
YEARS_OF_SCHOOL = NumberTable(
    EDUCATION,
    {
        **{"Preschool": 0, "1st-4th": 4, "5th-6th": 6, "7th-8th": 8, "9th": 9, "10th": 10},
        **{"11th": 11, "12th": 12, "HS-grad": 12, "Some-college": 13, "Assoc-voc": 14},
        **{"Assoc-acdm": 14, "Bachelors": 16, "Masters": 18, "Prof-school": 19, "Doctorate": 21},
    },
)


@feature(categories=EDUCATION_GROUPS.categories)
def education_group(education: Codes) -> Codes:
    """Education in five steps."""
    return EDUCATION_GROUPS(education)


@feature(valid_range=(0, 1), integer=True)
def has_degree(education: Codes) -> Numbers:
    """Whether the person holds a bachelor's degree or more."""
    return DEGREES(education)


@feature(valid_range=(0, 1), integer=True)
def has_advanced_degree(education: Codes) -> Numbers:
    """Whether the person holds a master's, professional or doctor's degree."""
    return ADVANCED_DEGREES(education)


@feature(unit="years", valid_range=(0, 21), integer=True)
def years_of_school(education: Codes) -> Numbers:
    """Years that the level of education usually takes."""
    return YEARS_OF_SCHOOL(education)


# ---- age and working life ----------------------------------------------------------------------

AGE_BANDS = Bands([25, 35, 45, 55, 65])


@feature(categories=AGE_BANDS.categories)
def age_band(age: Numbers) -> Codes:
    """Band of age."""
    return AGE_BANDS(age)


@feature(unit="years²", valid_range=(0, 14_400), integer=True)
def age_squared(age: Numbers) -> Numbers:
    """Age squared: income rises and falls over a life."""
    return age * age


@feature(unit="years", valid_range=(0, 120), integer=True)
def years_of_experience(age: Numbers, years_of_school: Numbers) -> Numbers:
    """Years since school would have ended, had it begun at six and never paused."""
    return np.maximum(age - years_of_school - np.float32(6), np.float32(0))


@feature(valid_range=(0, 1), integer=True)
def is_prime_age(age: Numbers) -> Numbers:
    """Whether the person is between 35 and 59, where incomes peak."""
    return flag((age >= 35) & (age < 60), of=age)


@feature(unit="years × hours/week", valid_range=(0, 20_160), integer=True)
def age_hours(age: Numbers, hours_per_week: Numbers) -> Numbers:
    """Age times weekly hours."""
    return age * hours_per_week


@feature(unit="rank × hours/week", valid_range=(0, 2_688), integer=True)
def education_hours(education_num: Numbers, hours_per_week: Numbers) -> Numbers:
    """Rank of education times weekly hours."""
    return education_num * hours_per_week


@feature(unit="years × rank", valid_range=(0, 1_920), integer=True)
def age_education(age: Numbers, education_num: Numbers) -> Numbers:
    """Age times rank of education."""
    return age * education_num


# ---- marriage and household --------------------------------------------------------------------

MARRIED = Membership(MARITAL_STATUS, "Married-civ-spouse", "Married-AF-spouse")
MARITAL_GROUPS = CodeTable(
    MARITAL_STATUS,
    {
        "married": ["Married-civ-spouse", "Married-AF-spouse"],
        "never-married": ["Never-married"],
        "formerly-married": ["Divorced", "Separated", "Widowed", "Married-spouse-absent"],
    },
)
RELATIONSHIP_GROUPS = CodeTable(
    RELATIONSHIP,
    {
        "spouse": ["Husband", "Wife"],
        "dependant": ["Own-child", "Other-relative"],
        "on-their-own": ["Not-in-family", "Unmarried"],
    },
)
SPOUSES = Membership(RELATIONSHIP, "Husband", "Wife")
LONE_PARENTS = Membership(RELATIONSHIP, "Unmarried")


@feature(valid_range=(0, 1), integer=True)
def is_married(marital_status: Codes) -> Numbers:
    """Whether the person is married and the spouse is present."""
    return MARRIED(marital_status)


@feature(categories=MARITAL_GROUPS.categories)
def marital_group(marital_status: Codes) -> Codes:
    """Marital status in three groups."""
    return MARITAL_GROUPS(marital_status)


@feature(categories=RELATIONSHIP_GROUPS.categories)
def relationship_group(relationship: Codes) -> Codes:
    """Place in the household in three groups."""
    return RELATIONSHIP_GROUPS(relationship)


@feature(valid_range=(0, 1), integer=True)
def heads_family_alone(relationship: Codes) -> Numbers:
    """Whether the person heads a family without a spouse."""
    return LONE_PARENTS(relationship)


@feature(unit="rank", valid_range=(0, 16), integer=True)
def spouse_education(relationship: Codes, education_num: Numbers) -> Numbers:
    """Rank of education of a husband or wife, 0 for others."""
    return SPOUSES(relationship) * education_num


@feature(unit="hours/week", valid_range=(0, 168), integer=True)
def spouse_hours(relationship: Codes, hours_per_week: Numbers) -> Numbers:
    """Weekly hours of a husband or wife, 0 for others."""
    return SPOUSES(relationship) * hours_per_week


# ---- work -------------------------------------------------------------------------------------

OCCUPATION_GROUPS = CodeTable(
    OCCUPATION,
    {
        "managerial-professional": ["Exec-managerial", "Prof-specialty"],
        "technical-sales-office": ["Tech-support", "Sales", "Adm-clerical"],
        "craft-protective": ["Craft-repair", "Protective-serv", "Armed-Forces"],
        "manual": ["Machine-op-inspct", "Transport-moving", "Handlers-cleaners", "Farming-fishing"],
        "service": ["Other-service", "Priv-house-serv"],
    },
)
WORK_SECTORS = CodeTable(
    WORKCLASS,
    {
        "private": ["Private"],
        "self-employed": ["Self-emp-not-inc", "Self-emp-inc"],
        "government": ["Federal-gov", "Local-gov", "State-gov"],
        "unpaid": ["Without-pay", "Never-worked"],
    },
)
SELF_EMPLOYED = Membership(WORKCLASS, "Self-emp-not-inc", "Self-emp-inc")
WHITE_COLLAR = Membership(
    OCCUPATION, "Exec-managerial", "Prof-specialty", "Tech-support", "Sales", "Adm-clerical"
)
MANAGERS = Membership(OCCUPATION, "Exec-managerial", "Prof-specialty")


@feature(categories=OCCUPATION_GROUPS.categories)
def occupation_group(occupation: Codes) -> Codes:
    """Occupation in five groups."""
    return OCCUPATION_GROUPS(occupation)


@feature(valid_range=(0, 1), integer=True)
def is_white_collar(occupation: Codes) -> Numbers:
    """Whether the work is done at a desk."""
    return WHITE_COLLAR(occupation)


@feature(categories=WORK_SECTORS.categories)
def work_sector(workclass: Codes) -> Codes:
    """Employer in four sectors."""
    return WORK_SECTORS(workclass)


@feature(valid_range=(0, 1), integer=True)
def is_self_employed(workclass: Codes) -> Numbers:
    """Whether the person works on their own account."""
    return SELF_EMPLOYED(workclass)


@feature(unit="rank", valid_range=(0, 16), integer=True)
def manager_education(occupation: Codes, education_num: Numbers) -> Numbers:
    """Rank of education in managerial and professional work, 0 in other work."""
    return MANAGERS(occupation) * education_num


# ---- country ----------------------------------------------------------------------------------

COUNTRY_REGIONS = CodeTable(
    COUNTRY,
    {
        "united-states": ["United-States", "Outlying-US(Guam-USVI-etc)"],
        "canada-west-europe": [
            *("Canada", "England", "Germany", "Ireland", "France", "Scotland", "Italy"),
            *("Portugal", "Greece", "Holand-Netherlands"),
        ],
        "east-europe": ["Poland", "Hungary", "Yugoslavia"],
        "latin-america": [
            *("Puerto-Rico", "Cuba", "Honduras", "Jamaica", "Mexico", "Dominican-Republic"),
            *("Ecuador", "Haiti", "Columbia", "Guatemala", "Nicaragua", "El-Salvador"),
            *("Trinadad&Tobago", "Peru"),
        ],
        "asia": [
            *("Cambodia", "India", "Japan", "South", "China", "Iran", "Philippines", "Vietnam"),
            *("Laos", "Taiwan", "Thailand", "Hong"),
        ],
    },
)


@feature(categories=COUNTRY_REGIONS.categories)
def country_region(native_country: Codes) -> Codes:
    """Region of birth."""
    return COUNTRY_REGIONS(native_country)
