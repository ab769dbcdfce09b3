/* SPDX-License-Identifier: MIT */
/* node.h: a node does what a sorted array does, and a node from disk is either sound or refused. */
#include "support/support.h"

#include "node.h"

enum { CELLS_MAX = 2000 };

struct cell {
	uint8_t key[MOJO_KEY_BYTES_MAX];
	unsigned key_length;
	uint8_t value[MOJO_VALUE_BYTES_MAX];
	unsigned value_length;
};

struct model {
	struct cell *cells[CELLS_MAX]; /* owned; in order */
	unsigned count;
};

static int compare(const uint8_t *a, unsigned a_length, const uint8_t *b, unsigned b_length)
{
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
	return order ? order : (int)a_length - (int)b_length;
}

static unsigned model_find(const struct model *model, const uint8_t *key, unsigned length, bool *ret_exact)
{
	unsigned i = 0;
	*ret_exact = false;
	while (i < model->count && compare(model->cells[i]->key, model->cells[i]->key_length, key, length) < 0)
		i++;
	if (i < model->count)
		*ret_exact = compare(model->cells[i]->key, model->cells[i]->key_length, key, length) == 0;
	return i;
}

static void model_free(struct model *model)
{
	while (model->count)
		free(model->cells[--model->count]);
}

static void assert_same(uint8_t *node, uint32_t bytes, const struct model *model)
{
	uint32_t used = 0;
	assert_int_equal(mojo_node_count(node), model->count);
	for (unsigned i = 0; i < model->count; i++) {
		const struct cell *cell = model->cells[i];
		unsigned length;
		const uint8_t *key = mojo_node_key(node, i, &length);
		assert_int_equal(length, cell->key_length);
		assert_memory_equal(key, cell->key, length);
		const uint8_t *value = mojo_node_value(node, i, &length);
		assert_int_equal(length, cell->value_length);
		assert_memory_equal(value, cell->value, length);
		used += MOJO_CELL_FIXED_BYTES + 2 + cell->key_length + cell->value_length;
	}
	assert_int_equal(mojo_node_used(node, bytes), used);
	if (model->count)
		assert_true(mojo_node_valid(node, bytes));
}

static struct cell *random_cell(struct dice *dice, unsigned value_max)
{
	struct cell *cell = calloc(1, sizeof(*cell));
	assert_non_null(cell);
	cell->key_length = dice_below(dice, MOJO_KEY_BYTES_MAX + 1);
	for (unsigned i = 0; i < cell->key_length; i++)
		cell->key[i] = (uint8_t)(MOJO_KEY_ENTRY + dice_below(dice, 2) * 200); /* no slots: any value will do */
	cell->value_length = dice_below(dice, value_max + 1);
	for (unsigned i = 0; i < cell->value_length; i++)
		cell->value[i] = (uint8_t)dice_next(dice);
	return cell;
}

static void run_model(struct dice *dice, uint32_t bytes, unsigned value_max)
{
	struct model model = { 0 };
	uint8_t *node = malloc(bytes);
	unsigned refused = 0;
	assert_non_null(node);
	mojo_node_init(node, bytes, 0, MOJO_TREE_MAIN);
	for (int round = 0; round < 4000; round++) {
		struct cell *cell = random_cell(dice, value_max);
		bool exact, wanted;
		unsigned at = model_find(&model, cell->key, cell->key_length, &wanted);
		assert_int_equal(mojo_node_find(node, cell->key, cell->key_length, &exact), at);
		assert_int_equal(exact, wanted);
		unsigned child = mojo_node_child(node, cell->key, cell->key_length);
		assert_int_equal(child, exact || at == 0 ? at : at - 1);
		bool fits = MOJO_NODE_FIXED_BYTES + mojo_node_used(node, bytes) + MOJO_CELL_FIXED_BYTES + 2 +
				    cell->key_length + cell->value_length <=
			    bytes;
		if (exact) {
			mojo_node_remove(node, at);
			free(model.cells[at]);
			memmove(model.cells + at, model.cells + at + 1, (model.count - at - 1) * sizeof(cell));
			model.count--;
			free(cell);
		} else {
			/* It holds what there is room for, however the room is divided. */
			assert_int_equal(mojo_node_insert(node, bytes, at, cell->key, cell->key_length, cell->value,
							  cell->value_length),
					 fits);
			if (fits) {
				memmove(model.cells + at + 1, model.cells + at, (model.count - at) * sizeof(cell));
				model.cells[at] = cell;
				model.count++;
			} else {
				free(cell);
				refused++;
			}
		}
		assert_same(node, bytes, &model);
		if (model.count && (refused > 20 || dice_below(dice, 500) == 0)) {
			/* Split it anywhere; go on with either half. */
			uint8_t *right = malloc(bytes);
			assert_non_null(right);
			memset(right, 0xff, bytes);
			unsigned cut = dice_below(dice, model.count + 1);
			mojo_node_split(node, right, bytes, cut);
			struct model upper = { .count = model.count - cut };
			memcpy(upper.cells, model.cells + cut, upper.count * sizeof(cell));
			model.count = cut;
			assert_same(node, bytes, &model);
			assert_same(right, bytes, &upper);
			assert_int_equal(mojo_node_level(right), mojo_node_level(node));
			assert_int_equal(mojo_node_kind(right), mojo_node_kind(node));
			if (dice_below(dice, 2)) {
				model_free(&model);
				model = upper;
				free(node);
				node = right;
			} else {
				model_free(&upper);
				free(right);
			}
			refused = 0;
		}
	}
	model_free(&model);
	free(node);
}

static void test_a_node_is_a_sorted_array(void **state)
{
	struct dice dice = dice_new("node");
	(void)state;
	run_model(&dice, 4096, 20);
	run_model(&dice, 4096, MOJO_VALUE_BYTES_MAX);
	run_model(&dice, 8192, 300);
	run_model(&dice, MOJO_NODE_BYTES_MAX, MOJO_VALUE_BYTES_MAX);
}

static void test_three_of_the_largest_cells_fit(void **state)
{
	uint8_t node[MOJO_PAGE_SIZE_MIN], key[MOJO_KEY_BYTES_MAX] = { 0 }, value[MOJO_VALUE_BYTES_MAX] = { 0 };
	(void)state;
	mojo_node_init(node, sizeof(node), 0, MOJO_TREE_SPACE);
	for (unsigned i = 0; i < 3; i++) {
		key[0] = (uint8_t)i;
		assert_true(mojo_node_insert(node, sizeof(node), i, key, sizeof(key), value, sizeof(value)));
	}
	key[0] = 3;
	assert_false(mojo_node_insert(node, sizeof(node), 3, key, sizeof(key), value, sizeof(value)));
	assert_true(mojo_node_valid(node, sizeof(node)));
}

static void count_ref(void *arg, uint8_t *ref)
{
	unsigned *sum = arg;
	*sum += (unsigned)mojo_ref_decode(ref).address;
}

static void add(uint8_t *node, const char *key, const void *value, unsigned length)
{
	bool exact;
	unsigned at = mojo_node_find(node, (const uint8_t *)key, (unsigned)strlen(key), &exact);
	assert_true(mojo_node_insert(node, 4096, at, (const uint8_t *)key, (unsigned)strlen(key), value, length));
}

static void test_every_reference_in_a_node_is_found(void **state)
{
	uint8_t node[4096], value[40] = { 0 };
	unsigned sum = 0;
	(void)state;
	/* In a leaf of the main tree: the values of slots, where they refer to anything. */
	mojo_node_init(node, sizeof(node), 0, MOJO_TREE_MAIN);
	mojo_ref_encode(value, &(struct mojo_ref){ .address = 1, .bytes = 10 });
	add(node, "\x01 an inode", value, sizeof(value));
	add(node, "\x02 an entry", value, sizeof(value));
	mojo_ref_encode(value, &(struct mojo_ref){ .address = 10, .bytes = 10 });
	add(node, "\x03 a slot", value, sizeof(value));
	mojo_ref_encode(value, &(struct mojo_ref){ .address = 100, .bytes = 10 });
	add(node, "\x03 another", value, sizeof(value));
	memset(value, 0, sizeof(value));
	add(node, "\x03 no blob", value, sizeof(value));
	mojo_node_each_ref(node, count_ref, &sum);
	assert_int_equal(sum, 110);
	/* In a leaf of the versions' tree and in every inner node: all. */
	mojo_node_init(node, sizeof(node), 0, MOJO_TREE_VERSIONS);
	mojo_ref_encode(value, &(struct mojo_ref){ .address = 1000, .bytes = 10 });
	add(node, "a", value, sizeof(value));
	add(node, "b", value, sizeof(value));
	sum = 0;
	mojo_node_each_ref(node, count_ref, &sum);
	assert_int_equal(sum, 2000);
	mojo_node_init(node, sizeof(node), 3, MOJO_TREE_SPACE);
	add(node, "", value, MOJO_REF_BYTES);
	add(node, "\x01", value, MOJO_REF_BYTES);
	sum = 0;
	mojo_node_each_ref(node, count_ref, &sum);
	assert_int_equal(sum, 2000);
	/* Dead blocks are no references. */
	mojo_node_init(node, sizeof(node), 0, MOJO_TREE_SPACE);
	add(node, "\x01", value, sizeof(value));
	sum = 0;
	mojo_node_each_ref(node, count_ref, &sum);
	assert_int_equal(sum, 0);
}

static void test_a_node_that_cannot_be_is_refused(void **state)
{
	uint8_t good[4096], node[4096], ref[MOJO_REF_BYTES];
	(void)state;
	mojo_ref_encode(ref, &(struct mojo_ref){ .address = 7, .bytes = 4096 });
	mojo_node_init(good, sizeof(good), 1, MOJO_TREE_MAIN);
	assert_false(mojo_node_valid(good, sizeof(good))); /* empty */
	add(good, "", ref, sizeof(ref));
	add(good, "bbbb", ref, sizeof(ref));
	add(good, "cccc", ref, sizeof(ref));
	assert_true(mojo_node_valid(good, sizeof(good)));

#define ASSERT_NODE_REFUSED(change)                                \
	do {                                                       \
		memcpy(node, good, sizeof(node));                  \
		change;                                            \
		assert_false(mojo_node_valid(node, sizeof(node))); \
	} while (0)
	unsigned third = mojo_get16(good + MOJO_NODE_FIXED_BYTES + 4);
	ASSERT_NODE_REFUSED(node[0] ^= 1);
	ASSERT_NODE_REFUSED(node[4] = 17); /* too high */
	ASSERT_NODE_REFUSED(node[5] = 0);  /* of no kind */
	ASSERT_NODE_REFUSED(node[5] = 4);
	ASSERT_NODE_REFUSED(node[12] = 1);
	ASSERT_NODE_REFUSED(mojo_put16(node + 6, 4)); /* more cells than there are */
	ASSERT_NODE_REFUSED(mojo_put16(node + 6, 2)); /* fewer: bytes are unaccounted for */
	ASSERT_NODE_REFUSED(mojo_put16(node + 6, 0xffff));
	ASSERT_NODE_REFUSED(mojo_put16(node + 8, 4097));
	ASSERT_NODE_REFUSED(mojo_put16(node + 8, 0));
	ASSERT_NODE_REFUSED(mojo_put16(node + 10, 1));
	ASSERT_NODE_REFUSED(mojo_put16(node + MOJO_NODE_FIXED_BYTES, 4093));
	ASSERT_NODE_REFUSED(mojo_put16(node + MOJO_NODE_FIXED_BYTES, 0));
	ASSERT_NODE_REFUSED(mojo_put16(node + MOJO_NODE_FIXED_BYTES + 4, (uint16_t)(third + 1)));
	ASSERT_NODE_REFUSED(mojo_put16(node + third, 17)); /* keys are shorter */
	ASSERT_NODE_REFUSED(mojo_put16(node + third + 2, 25));
	ASSERT_NODE_REFUSED(mojo_put16(node + third + 2, 0xffff));
	ASSERT_NODE_REFUSED(node[third + 4] = 'a');                                 /* out of order */
	ASSERT_NODE_REFUSED(memcpy(node + third + 4, "bbbb", 4));                   /* twice the same key */
	ASSERT_NODE_REFUSED(mojo_put32(node + third + 8 + 12, MOJO_REF_IN_MEMORY)); /* a pointer */
	ASSERT_NODE_REFUSED(memset(node + third + 8, 0, MOJO_REF_BYTES));           /* no child */
	/* Two cells in one place: each sound by itself. */
	ASSERT_NODE_REFUSED(memcpy(node + MOJO_NODE_FIXED_BYTES + 2, node + MOJO_NODE_FIXED_BYTES + 4, 2));
	/* A slot or version whose value is too short for its reference. */
	mojo_node_init(node, sizeof(node), 0, MOJO_TREE_VERSIONS);
	add(node, "v", ref, MOJO_REF_BYTES - 1);
	assert_false(mojo_node_valid(node, sizeof(node)));
}

static void look_at_all(uint8_t *node)
{
	unsigned sum = 0, count = mojo_node_count(node);
	for (unsigned i = 0; i < count; i++) {
		unsigned key_length, value_length;
		bool exact;
		const uint8_t *key = mojo_node_key(node, i, &key_length);
		const uint8_t *value = mojo_node_value(node, i, &value_length);
		for (unsigned k = 0; k < value_length; k++)
			sum += value[k];
		assert_int_equal(mojo_node_find(node, key, key_length, &exact), i);
		assert_true(exact);
	}
	mojo_node_each_ref(node, count_ref, &sum);
}

/* What passes for valid can be walked, searched, changed and split without touching anything outside. */
static void test_a_mutated_node_is_refused_or_harmless(void **state)
{
	struct dice dice = dice_new("node mutations");
	unsigned passed = 0;
	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint8_t *node = malloc(4096), *right = malloc(4096); /* so that a step outside is seen */
		assert_non_null(node);
		assert_non_null(right);
		uint8_t value[60] = { 0 };
		unsigned kind = 1 + dice_below(&dice, 3), level = dice_below(&dice, 2);
		mojo_ref_encode(value, &(struct mojo_ref){ .address = 7, .bytes = 4096 });
		mojo_node_init(node, 4096, level, kind);
		for (unsigned i = 0, n = 1 + dice_below(&dice, 40); i < n; i++) {
			uint8_t key[4] = { (uint8_t)(1 + i / 10), (uint8_t)i, 0, 0 };
			assert_true(mojo_node_insert(node, 4096, i, key, 4, value,
						     level ? MOJO_REF_BYTES : MOJO_REF_BYTES + dice_below(&dice, 30)));
		}
		if (dice_below(&dice, 2) && mojo_node_count(node) > 1)
			mojo_node_remove(node, dice_below(&dice, mojo_node_count(node)));
		assert_true(mojo_node_valid(node, 4096));
		for (unsigned i = dice_below(&dice, 4); i < 4; i++) {
			/* Where it hurts: the head, the offsets, the cells. */
			uint32_t at = dice_below(&dice, 2) ? dice_below(&dice, 60) : 4095 - dice_below(&dice, 2000);
			node[at] = dice_below(&dice, 2) ? (uint8_t)(node[at] + 1) : (uint8_t)dice_next(&dice);
		}
		if (mojo_node_valid(node, 4096)) {
			passed++;
			look_at_all(node);
			uint8_t key[3] = { 2, (uint8_t)dice_next(&dice), 9 };
			bool exact;
			unsigned at = mojo_node_find(node, key, sizeof(key), &exact);
			if (!exact)
				mojo_node_insert(node, 4096, at, key, sizeof(key), value, MOJO_REF_BYTES);
			mojo_node_split(node, right, 4096, dice_below(&dice, mojo_node_count(node) + 1));
			while (mojo_node_count(node))
				mojo_node_remove(node, dice_below(&dice, mojo_node_count(node)));
		}
		free(node);
		free(right);
	}
	assert_true(passed > 1000); /* else this proves little */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_node_is_a_sorted_array),
		cmocka_unit_test(test_three_of_the_largest_cells_fit),
		cmocka_unit_test(test_every_reference_in_a_node_is_found),
		cmocka_unit_test(test_a_node_that_cannot_be_is_refused),
		cmocka_unit_test(test_a_mutated_node_is_refused_or_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
