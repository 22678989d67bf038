// A whole chip from Verilated stations: both ends of the chain and its layers, joined by their ports.
//
// It has the members of a Verilated `chip`, so that the harness drives either. Two things that the
// top module does in Verilog are done here: the wires between stations, and the clock gate of each
// layer. A station whose clock is stopped is not evaluated. What a layer shows at its ports depends
// on its registers alone, and so does what the ends show, but for the ready of their `last` stream,
// which depends on what is offered there; hence the order in eval().
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <verilated.h>

#include "stations.h"  // the ends' and the layers' headers, and make_layers()

struct Layer {
    virtual ~Layer() = default;
    virtual void eval() = 0;
    virtual void final() = 0;
    CData *clk, *root, *rst, *busy, *i_valid, *i_ready, *o_valid, *o_ready;
    EData *i_payload, *o_payload;
    EData *side = nullptr, *next_side = nullptr;  // null without side memory
    CData *side_valid = nullptr, *next_side_valid = nullptr;
    bool clocked = true;
};

// Writes into side memory leave a station by these ports, if it has them.
template <typename Model, typename = void>
constexpr bool HAS_SIDE = false;
template <typename Model>
constexpr bool HAS_SIDE<Model, std::void_t<decltype(std::declval<Model&>().next_side_valid)>> = true;

template <typename Model>
constexpr size_t side_words() {
    if constexpr (HAS_SIDE<Model>) return sizeof(Model::next_side) / sizeof(EData);
    return 0;
}

template <typename Model>
EData* next_side(Model& model) {
    if constexpr (HAS_SIDE<Model>) return model.next_side.data();
    return nullptr;
}

template <typename Model>
CData* next_side_valid(Model& model) {
    if constexpr (HAS_SIDE<Model>) return &model.next_side_valid;
    return nullptr;
}

template <typename Model>
struct LayerOf final : Layer {
    Model model;
    LayerOf(VerilatedContext* context, unsigned number) : model(context, "layer") {
        model.id = static_cast<SData>(number);
        clk = &model.clk, root = &model.root, rst = &model.rst, busy = &model.busy;
        i_valid = &model.i___05Fvalid, i_ready = &model.i___05Fready;
        o_valid = &model.o___05Fvalid, o_ready = &model.o___05Fready;
        i_payload = model.i___05Fpayload.data(), o_payload = model.o___05Fpayload.data();
        if constexpr (HAS_SIDE<Model>) {
            side = model.side.data(), side_valid = &model.side_valid;
            Layer::next_side = ::next_side(model), Layer::next_side_valid = ::next_side_valid(model);
        }
    }
    void eval() override { model.eval(); }
    void final() override { model.final(); }
};

class Vchip {
    Ends _ends;
    std::vector<std::unique_ptr<Layer>> _layers;
    unsigned _waking = 4;  // cycles after a reset in which every clock still runs
    bool _ends_clocked = true;
    static constexpr size_t WORDS = sizeof(Ends::first___05Fpayload) / sizeof(EData);

public:
    CData clk = 1, rst = 0, busy = 0;
    std::remove_reference_t<decltype(Ends::command___05Fpayload)>& command___05Fpayload;
    CData &command___05Fvalid, &command___05Fready;
    std::remove_reference_t<decltype(Ends::result___05Fpayload)>& result___05Fpayload;
    CData &result___05Fvalid, &result___05Fready;
    std::remove_reference_t<decltype(Ends::logits___05Fpayload)>& logits___05Fpayload;
    CData &logits___05Fvalid, &logits___05Fready;

    Vchip(VerilatedContext* context, const char*)
        : _ends(context, "ends"),
          _layers(make_layers<Layer, LayerOf>(context)),
          command___05Fpayload(_ends.command___05Fpayload),
          command___05Fvalid(_ends.command___05Fvalid),
          command___05Fready(_ends.command___05Fready),
          result___05Fpayload(_ends.result___05Fpayload),
          result___05Fvalid(_ends.result___05Fvalid),
          result___05Fready(_ends.result___05Fready),
          logits___05Fpayload(_ends.logits___05Fpayload),
          logits___05Fvalid(_ends.logits___05Fvalid),
          logits___05Fready(_ends.logits___05Fready) {}

    void eval() {
        if (clk) {
            rise();
        } else {
            fall();
        }
    }

    void final() {
        _ends.final();
        for (auto& layer : _layers) layer->final();
    }

private:
    void fall() {
        if (rst) _waking = 4;
        const bool awake = rst || _waking;
        const EData* payload = _ends.first___05Fpayload.data();
        const CData* valid = &_ends.first___05Fvalid;
        const EData* side = next_side(_ends);
        const CData* writes = next_side_valid(_ends);
        for (auto& layer : _layers) {
            layer->clocked = awake || *layer->busy || *valid || (writes && *writes);
            if (layer->clocked) {
                *layer->i_valid = *valid;
                if (*valid) std::copy_n(payload, WORDS, layer->i_payload);
                if (writes) *layer->side_valid = *writes;
                if (writes && *writes) std::copy_n(side, side_words<Ends>(), layer->side);
            }
            valid = layer->o_valid, payload = layer->o_payload;
            writes = layer->next_side_valid, side = layer->next_side;
        }
        _ends_clocked = awake || _ends.busy || command___05Fvalid || *valid;
        if (_ends_clocked) {
            _ends.last___05Fvalid = *valid;
            if (*valid) std::copy_n(payload, WORDS, _ends.last___05Fpayload.data());
            _ends.first___05Fready = *_layers.front()->i_ready;
            _ends.rst = rst;
            _ends.clk = 0;
            _ends.eval();
        }
        for (size_t i = 0; i < _layers.size(); ++i) {
            Layer& layer = *_layers[i];
            if (!layer.clocked) continue;
            *layer.o_ready =
                i + 1 < _layers.size() ? *_layers[i + 1]->i_ready : _ends.last___05Fready;
            *layer.rst = rst;
        }
        // ready was read from all before any of them moves
        for (auto& layer : _layers) {
            if (!layer->clocked) continue;
            *layer->clk = *layer->root = 0;
            layer->eval();
        }
        look();
    }

    void rise() {
        if (_ends_clocked) {
            _ends.clk = 1;
            _ends.eval();
        }
        for (auto& layer : _layers) {
            if (!layer->clocked) continue;
            *layer->clk = *layer->root = 1;
            layer->eval();
        }
        if (!rst && _waking) --_waking;
        look();
    }

    void look() {
        busy = _ends.busy;
        for (auto& layer : _layers) busy |= *layer->busy;
    }
};
