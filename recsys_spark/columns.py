"""The vocabulary: names of columns, folds, passes and models that more than one room uses.

External ids (`user_id`, `item_id`) are the strings of the log. Dense ids (`user_idx` int64, `item_idx` int32) come from
the clean stage and never change afterwards. Both kinds meet only in the tables `users`, `items` and `top_n`.
"""

USER_ID = "user_id"
ITEM_ID = "item_id"
USER_IDX = "user_idx"
ITEM_IDX = "item_idx"

EVENT_TS = "event_ts"
EVENT_TYPE = "event_type"
WEIGHT = "weight"
RATING = "rating"
QUANTITY = "quantity"
PRICE = "price"

TITLE = "title"
CATEGORIES = "categories"
TEXT = "text"
WITHDRAWN = "withdrawn"
SEGMENT = "segment"
ATTRIBUTES = "attributes"

SOURCE_FILE = "source_file"
REASON = "reason"
DETAIL = "detail"
ROW = "row"

FOLD = "fold"
TRAIN = "train"
VALID = "valid"
TEST = "test"
COLD_USER = "cold_user"
COLD_ITEM = "cold_item"
"""Folds of the users and items that are held out entirely, and names of the lists that measure them."""

AS_OF = "as_of"
RELEASE = "release"
BACKTEST = "backtest"

MODEL = "model"
SCORE = "score"
RANK = "rank"
SOURCE = "source"
BECAUSE = "because"
RUN_DATE = "run_date"
RUN_ID = "run_id"
MODEL_VERSION = "model_version"
DIVERSITY = "diversity"
MAX_PER_CATEGORY = "max_per_category"
K = "k"

POPULARITY = "popularity"
ALS = "als"
ITEM_KNN = "item_knn"
ITEM_RIDGE = "item_ridge"
USER_KNN = "user_knn"
SVD = "svd"
CONTENT = "content"
NETWORK = "network"
FUSED = "fused"

FORMER_NAMES = {"item_cosine": ITEM_KNN, "user_cosine": USER_KNN}
"""Names of models in earlier versions. Old configs, saved models and published nights still have them."""

DROPPED = "dropped"
"""Key in the manifest of the backtest's score stage: the models that the release leaves out."""

PER_TARGET = "targets"
PER_USER = "users"
"""Kinds of training example: an item and the history before it, or the whole history of a user."""

PADDING_ITEM = 0
"""The item index for "no item". Items start at 1. Row 0 of an item array is never scored."""

COLD_START = "cold_start"
"""Key of `metrics.json`: accuracy for users and items that are held out entirely."""
DIVERSITY_TRADEOFF = "diversity_tradeoff"
"""Folder of the lists, and key of `metrics.json`: accuracy and coverage for several values of diversity and cap."""
